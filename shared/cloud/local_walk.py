"""A walk over a tree on the local disk in one order, page by page, that goes on after any path.

The order is that of the paths, component by component, a folder before what it holds. So a place is all that a cursor
needs, also when files came and went meanwhile: what lies behind the place was told, what lies before it will be.
"""

from collections.abc import AsyncIterator, Callable
from typing import Final

from shared.cloud.errors import BadPath, NotAFile, NotFound
from shared.cloud.paths import MAX_COMPONENTS, Parts, split_path
from shared.cloud.provider import Change, Changed
from shared.cloud.store import Entry, Stat
from shared.hash_slots import partition_of

__all__ = ["Walk", "is_path", "version_of"]

PAGE: Final = 500


class Walk:
    """From the place `after` on. `partition`: only the folders of its devices, those two levels down."""

    def __init__(
        self,
        entries: Callable[[str], AsyncIterator[list[Entry]]],
        *,
        after: str | None,
        partition: int | None,
        page: int = PAGE,
    ) -> None:
        self._entries = entries
        self._after: Parts = split_path(after) if after else ()
        self._partition = partition
        self._page = page

    async def page(self) -> tuple[list[Change], str | None]:
        """The next changes, and the place they go up to; None for the place: that was all."""
        found: list[Change] = []
        async for path, entry in self._walk((), self._after):
            if len(found) >= self._page:
                last = found[-1]
                assert isinstance(last, Changed)
                return found, last.path
            is_file = entry.kind == "file"
            found.append(
                Changed(
                    path,
                    "file" if is_file else "folder",
                    path=path,
                    size=entry.stat.size if is_file else 0,
                    version=version_of(entry.stat) if is_file else None,
                    modified_at=entry.stat.mtime_ns / 1e9,
                )
            )
        return found, None

    async def _walk(self, folder: Parts, after: Parts) -> AsyncIterator[tuple[str, Entry]]:
        """What comes behind `after`, which is relative to the folder; () is before everything in it."""
        names: list[Entry] = []
        try:
            async for page in self._entries("/".join(folder)):
                names += [entry for entry in page if entry.kind in ("file", "folder")]
        except (NotFound, NotAFile):
            return
        for entry in sorted(names, key=lambda entry: entry.name):
            inner = (*folder, entry.name)
            path = "/".join(inner)
            if (after and entry.name < after[0]) or not is_path(path) or not self._is_ours(inner, entry):
                continue
            is_on_the_way = bool(after) and entry.name == after[0]
            if not is_on_the_way:
                yield path, entry
            if entry.kind == "folder" and len(inner) < MAX_COMPONENTS:
                async for deeper in self._walk(inner, after[1:] if is_on_the_way else ()):
                    yield deeper

    def _is_ours(self, parts: Parts, entry: Entry) -> bool:
        if self._partition is None or len(parts) == 1:
            return self._partition is None or entry.kind == "folder"
        return partition_of(parts[1]) == self._partition


def is_path(path: str) -> bool:
    """Whether a path that was found on the disk is one of a store."""
    try:
        split_path(path)
    except BadPath:
        return False
    return True


def version_of(found: Stat) -> str:
    """While inode, size and time of writing stand, the content is taken to stand."""
    return f"stat:{found.inode}.{found.size}.{found.mtime_ns}"
