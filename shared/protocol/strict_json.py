"""JSON from outside, read so that it can mean only one thing.

Two parsers that disagree about `{"seq": 1, "seq": 2}`, `NaN` or `1e999` make a hole between a check and its use, so
keys that come twice, numbers that JSON does not have or a float cannot hold, text that is not UTF-8 and nesting deeper
than any of our messages are refused here, for REST bodies and device frames alike. What the values mean is the next
step's business.
"""

import json
from math import isfinite
from typing import Any, Literal, NoReturn

__all__ = ["NotStrictJson", "decode"]

Flaw = Literal["not_utf8", "not_json", "duplicate_key", "too_deep"]


class NotStrictJson(ValueError):
    """The text is not JSON as we take it. `str()` says what is wrong, as the end of a sentence that names the whole."""

    def __init__(self, flaw: Flaw, detail: str) -> None:
        super().__init__(detail)
        self.flaw: Flaw = flaw


def decode(text: str | bytes, *, max_depth: int) -> Any:
    """The value of a JSON text, nested at most `max_depth` deep. Raises NotStrictJson."""
    try:
        # The standard parser would guess UTF-16 and UTF-32 from bytes.
        text = text if isinstance(text, str) else text.decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_float=_finite)
    except RecursionError:
        raise NotStrictJson("too_deep", f"nests deeper than {max_depth}") from None
    except _DuplicateKeyError as error:
        raise NotStrictJson("duplicate_key", f"has the key {error} twice") from None
    except UnicodeDecodeError:
        raise NotStrictJson("not_utf8", "is not UTF-8") from None
    except ValueError:
        raise NotStrictJson("not_json", "is not JSON") from None
    if _depth_exceeds(value, max_depth):
        raise NotStrictJson("too_deep", f"nests deeper than {max_depth}")
    return value


class _DuplicateKeyError(ValueError):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _DuplicateKeyError(repr(key[:64]))
            seen.add(key)
    return unique


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError("number is too large")
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return bool(level)
