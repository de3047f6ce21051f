"""Settings from the environment into one frozen dataclass per process.

A field of the (frozen, kw_only) dataclass says its variable, unit and default with `setting()`; `load()` reads them
all, reports every mistake in one error and never shows the value of a secret. Nothing else in the project reads
`os.environ`.
"""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["SettingsError", "boolean", "bounded_float", "bounded_int", "choice", "load", "path", "setting", "text"]

T = TypeVar("T")


class SettingsError(ValueError):
    """Some settings are missing or wrong; the message has one line for each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def setting(
    env: str, default: Any = MISSING, *, help: str, parse: Callable[[str], Any] = str, secret: bool = False
) -> Any:
    """A dataclass field read from the variable `env`.

    Without a default it must be set. A secret is kept out of repr().
    """
    metadata = {"env": env, "help": help, "parse": parse, "secret": secret}
    if default is MISSING:
        return field(metadata=metadata, repr=not secret)
    return field(default=default, metadata=metadata, repr=not secret)


def load(cls: type[T], environ: Mapping[str, str]) -> T:
    """Build `cls` from the environment. Raises SettingsError naming every bad or missing variable.

    A `check(self) -> list[str]` method of the class is asked for cross-field problems once all fields parse.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    for item in fields(cls):  # type: ignore[arg-type]
        _read_one(item, environ, values, problems)
    if problems:
        raise SettingsError(problems)
    loaded = cls(**values)
    check = getattr(loaded, "check", None)
    if check is not None and (found := check()):
        raise SettingsError(list(found))
    return loaded


def _read_one(item: "Field[Any]", environ: Mapping[str, str], values: dict[str, Any], problems: list[str]) -> None:
    env = item.metadata["env"]
    raw = environ.get(env, "")
    if raw == "":
        if item.default is MISSING:
            problems.append(f"{env} is not set: {item.metadata['help']}")
        return
    try:
        values[item.name] = item.metadata["parse"](raw)
    except ValueError as error:
        shown = "(secret)" if item.metadata["secret"] else repr(raw)
        problems.append(f"{env}={shown} is wrong: {error}. {item.metadata['help']}")


def text(*, max_length: int = 4096) -> Callable[[str], str]:
    """A non-empty string of bounded length."""

    def parse(raw: str) -> str:
        if len(raw) > max_length:
            raise ValueError(f"longer than {max_length} characters")
        return raw

    return parse


def bounded_int(low: int, high: int) -> Callable[[str], int]:
    """A whole number from low to high."""

    def parse(raw: str) -> int:
        try:
            value = int(raw)
        except ValueError:
            raise ValueError(f"not a whole number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"not from {low} to {high}")
        return value

    return parse


def bounded_float(low: float, high: float) -> Callable[[str], float]:
    """A number from low to high."""

    def parse(raw: str) -> float:
        try:
            value = float(raw)
        except ValueError:
            raise ValueError(f"not a number from {low} to {high}") from None
        if not low <= value <= high:
            raise ValueError(f"not from {low} to {high}")
        return value

    return parse


def boolean(raw: str) -> bool:
    """1, true, yes, on or 0, false, no, off."""
    lowered = raw.lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off"):
        return False
    raise ValueError("not one of 1, true, yes, on, 0, false, no, off")


def choice(*allowed: str) -> Callable[[str], str]:
    """One of the given words."""

    def parse(raw: str) -> str:
        if raw not in allowed:
            raise ValueError(f"not one of {', '.join(allowed)}")
        return raw

    return parse


def path(raw: str) -> Path:
    """An absolute path; `~` and relative ones are resolved against the process's start."""
    return Path(raw).expanduser().absolute()
