"""What a provider's changes, applied in order, say is there [pure]: for who follows a store by its port alone.

Of one item the last change counts, a page told again changes nothing, and what a run over everything did not tell is
gone at its end. An item hangs in the tree by its path or by the folder it lies in; one whose folders are not known
(yet) is nowhere.
"""

from dataclasses import dataclass

from shared.cloud.provider import Changed, ChangePage, Removed

__all__ = ["Difference", "Mirror"]

_DEPTH_MAX = 100


@dataclass(frozen=True, slots=True)
class Difference:
    """What became of the files between two looks, by path, each sorted."""

    new: list[str]
    changed: list[str]
    gone: list[str]


class Mirror:
    """Everything of one store; memory follows the number of its items."""

    def __init__(self) -> None:
        self.cursor: str | None = None
        self._items: dict[str, Changed] = {}
        self._told: set[str] = set()
        self._before: dict[str, str | None] = {}

    def __repr__(self) -> str:
        return f"Mirror({len(self._items)} items)"

    def apply(self, page: ChangePage) -> None:
        """One page."""
        for change in page.changes:
            if isinstance(change, Removed):
                self._items.pop(change.item_id, None)
            else:
                self._items[change.item_id] = change
            if page.full:
                self._told.add(change.item_id)
        if page.full and not page.more:
            self._items = {item_id: item for item_id, item in self._items.items() if item_id in self._told}
        if not page.more:
            self._told.clear()
        self.cursor = page.cursor

    def restart(self, cursor: str | None) -> None:
        """The cursor is no good any more: go on with a run over everything, from where the provider said."""
        self.cursor = cursor
        self._told.clear()

    def files(self) -> dict[str, str | None]:
        """Versions by path."""
        found = {}
        for item in self._items.values():
            if item.kind == "file" and (path := self._path(item)) is not None:
                found[path] = item.version
        return found

    def size_of(self) -> dict[str, int]:
        """Sizes by path."""
        return {path: item.size for item in self._items.values() if (path := self._path(item)) is not None}

    def difference(self) -> Difference:
        """Since the last call."""
        before, now = self._before, self.files()
        self._before = now
        return Difference(
            sorted(now.keys() - before.keys()),
            sorted(path for path in now.keys() & before.keys() if now[path] != before[path]),
            sorted(before.keys() - now.keys()),
        )

    def _path(self, item: Changed) -> str | None:
        if item.path is not None:
            return item.path
        parts: list[str] = []
        while item.kind != "root":
            parent = self._items.get(item.parent_id or "")
            if parent is None or len(parts) > _DEPTH_MAX:
                return None
            parts.append(item.name or "")
            if parent.path is not None and parent.kind != "root":
                parts.append(parent.path)
                break
            item = parent
        return "/".join(reversed(parts))
