"""Which handler takes a file: by the job's kind, else by extension, else by content, else `unknown`.

Only pool processes import handlers, so an image library or a plug-in never shares a process with the lease. A plug-in
that cannot be loaded is left out and named; the others go on.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePosixPath

from worker.handlers.contract import ENTRY_POINT_GROUP, Handler
from worker.handlers.unknown import UnknownHandler

__all__ = ["HEAD_BYTES", "Registry", "load_registry"]

HEAD_BYTES = 4096
_SUFFIXES_MAX = 3


@dataclass(frozen=True, slots=True)
class Registry:
    """Handlers by kind, in the order they are asked, and what could not be loaded."""

    handlers: Mapping[str, Handler]
    problems: tuple[str, ...]

    def choose(self, kind: str, name: str, head: bytes) -> Handler:
        """The handler for a file. Always one: `unknown` says which extensions are taken."""
        if kind != "unknown" and (named := self.handlers.get(kind)) is not None:
            return named
        suffixes = [suffix.lower() for suffix in PurePosixPath(name).suffixes[-_SUFFIXES_MAX:]]
        for first in range(len(suffixes)):
            extension = "".join(suffixes[first:])  # the longest that somebody takes: .csv.gz before .gz
            for handler in self.handlers.values():
                if extension in handler.extensions | getattr(handler, "also_answers", frozenset[str]()):
                    return handler
        for handler in self.handlers.values():
            if handler.recognises(head):
                return handler
        return UnknownHandler(sorted(e for handler in self.handlers.values() for e in handler.extensions))


def load_registry(builtin: Iterable[Handler], plug_ins: Iterable[EntryPoint] | None = None) -> Registry:
    """The built-in handlers and those of installed packages. A plug-in may take the place of a built-in kind."""
    handlers: dict[str, Handler] = {handler.kind: handler for handler in builtin}
    problems: list[str] = []
    found = entry_points(group=ENTRY_POINT_GROUP) if plug_ins is None else plug_ins
    for entry in sorted(found, key=lambda e: e.name):
        try:
            handler: Handler = entry.load()()
            kind = handler.kind
            if kind != entry.name:
                raise ValueError(f"its kind is {kind!r}, its entry point says {entry.name!r}")
            if not all(callable(getattr(handler, name, None)) for name in ("recognises", "run")):
                raise TypeError("it is not a handler")
            frozenset(handler.extensions)
        except Exception as error:  # noqa: BLE001 - a plug-in may raise anything at import
            problems.append(
                f"handler {entry.name} ({entry.value}) cannot be loaded: {type(error).__name__}: {error}"[:500]
            )
            continue
        handlers[kind] = handler
    return Registry(handlers, tuple(problems))
