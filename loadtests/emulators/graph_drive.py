"""One emulated drive of SharePoint: a tree of items whose names fold case, and the log of changes behind its feed.

The feed tells the latest state of each item that changed, not each change; what it may do besides (repeat rows, drag
parents in, forget a token in the middle of a run) is set in `DriveManners`. Content is that of `BlobFolder`.
"""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from urllib.parse import quote

from loadtests.emulators.blobs import Blob, BlobFolder
from loadtests.emulators.clock import EmulatedClock
from shared.cloud.quick_xor import QuickXor

__all__ = ["DeltaPage", "Drive", "DriveManners", "GraphBlobs", "GraphFault", "Item"]

_FORBIDDEN: Final = frozenset('"*:<>?/\\|')
_FIRST_ID: Final = "01FLEET"


class GraphFault(Exception):
    """An error that Graph answers with."""

    def __init__(
        self, status: int, code: str, message: str = "As scripted.", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.headers = dict(headers or {})


class GraphBlobs(BlobFolder):
    """Content with the one hash that SharePoint says of it."""

    def make_hashes(self) -> dict[str, Any]:
        """quickXorHash, and what tests compare by."""
        return {"quick_xor": QuickXor(), **super().make_hashes()}


@dataclass
class DriveManners:
    """What the delta feed may do, all of it documented or seen."""

    page_size: int = 200
    repeat_rows: float = 0.0
    """How likely a row is told twice in its page."""
    parent_rows: bool = True
    """Whether a changed item drags its folders into the page."""
    empty_page_every: int = 0
    """Every so many pages one is empty, with a link all the same."""
    token_life_changes: int | None = None
    """A token is forgotten after so many changes."""
    business: bool = True
    """Whether what Business leaves out is left out: parents' paths, cTag, the name of what is deleted."""
    late_hashes: int = 0
    """How many times a new file is told without its hash."""
    makes_folders: bool = True
    """Whether an upload to a path makes the folders on the way."""
    early_conflict: bool = True
    """Whether a taken name is told when a session is made; otherwise only at its end."""
    resync_code: str = "resyncChangesApplyDifferences"
    leaves_changed_to_log: bool = False
    """Whether a run over everything passes over what changed since it began: the feed tells that afterwards."""
    tells_children: bool = True
    """Whether what was in a folder that is deleted is told, too, or only the folder."""
    code_inside: bool = False
    """Whether the code of a 410 is in `innerError`."""
    quota: int = 1 << 50


@dataclass
class Item:
    """A file (with a blob) or a folder."""

    id: str
    name: str
    parent: str | None
    blob: Blob | None
    created: float
    modified: float
    order: int
    seq: int = 0
    version: int = 1
    content_version: int = 1
    deleted: bool = False
    mime: str = "application/octet-stream"
    hash_kept_back: int = 0

    @property
    def folder(self) -> bool:
        """Whether it is none of a file."""
        return self.blob is None


@dataclass(frozen=True)
class DeltaPage:
    """Rows, and the token of the next page or of the next time."""

    rows: list[dict[str, Any]]
    token: str
    more: bool


@dataclass
class Drive:
    """A document library."""

    id: str
    blobs: BlobFolder
    clock: EmulatedClock
    manners: DriveManners = field(default_factory=DriveManners)
    seed: int = 0

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._numbers = itertools.count(1)
        self.items: dict[str, Item] = {}
        self._order: list[str] = []
        self._names: dict[str, dict[str, str]] = {}
        self._log: list[tuple[str, float]] = []
        self._horizon = 0
        self._generation = 1
        self._pages = 0
        self.used = 0
        self.root = self._make("root", None, None)

    # What is there

    def find(self, item_id: str) -> Item:
        """By id; `root` is one, too."""
        item = self.root if item_id == "root" else self.items.get(item_id)
        if item is None or item.deleted:
            raise GraphFault(404, "itemNotFound", "The resource could not be found.")
        return item

    def walk(self, start: Item, path: str) -> Item:
        """By path below an item; names fold case."""
        for name in filter(None, path.split("/")):
            child = self._names.get(start.id, {}).get(name.casefold())
            if child is None:
                raise GraphFault(404, "itemNotFound", "The resource could not be found.")
            start = self.items[child]
        return start

    def look(self, path: str) -> Item | None:
        """By path from the root, for tests."""
        try:
            return self.walk(self.root, path)
        except GraphFault:
            return None

    def children(self, item: Item) -> list[Item]:
        """What is directly in a folder."""
        return [self.items[child] for child in self._names.get(item.id, {}).values()]

    def path_of(self, item: Item) -> str:
        """From the root, without a first slash."""
        names: list[str] = []
        while item.parent is not None:
            names.append(item.name)
            item = self.items[item.parent]
        return "/".join(reversed(names))

    def files(self) -> Iterator[tuple[str, Item]]:
        """Paths and files, for tests."""
        for item in list(self.items.values()):
            if not item.deleted and not item.folder:
                yield self.path_of(item), item

    # What is done

    def folder(self, start: Item, path: str) -> Item:
        """The folder there, made where it is missing."""
        for name in filter(None, path.split("/")):
            child = self._names.get(start.id, {}).get(name.casefold())
            start = self.items[child] if child is not None else self._make(name, start, None)
            if not start.folder:
                raise GraphFault(409, "nameAlreadyExists", "A file has the name of a folder on the way.")
        return start

    def parent_for(self, start: Item, path: str) -> tuple[Item, str]:
        """Folder and name for something new at a path."""
        above, _, name = path.rpartition("/")
        return (self.folder(start, above) if self.manners.makes_folders else self.walk(start, above)), name

    def check(self, parent: Item, name: str, behavior: str) -> tuple[str, Item | None]:
        """The name that a new item gets, and the one whose content it replaces. 409 when that is not allowed."""
        _check_name(name)
        taken = self._names.get(parent.id, {})
        there = taken.get(name.casefold())
        if there is None:
            return name, None
        if behavior == "replace" and not self.items[there].folder:
            return name, self.items[there]
        if behavior != "rename":
            raise GraphFault(409, "nameAlreadyExists", "An item with the same name already exists under the parent.")
        stem, dot, suffix = name.rpartition(".")
        for number in itertools.count(1):
            other = f"{stem} {number}{dot}{suffix}" if dot else f"{suffix} {number}"
            if other.casefold() not in taken:
                return other, None
        raise AssertionError("there is always another number")

    def put(self, parent: Item, name: str, blob: Blob, behavior: str = "fail", *, mime: str = "") -> tuple[Item, bool]:
        """Content under a name, and whether it is a new item."""
        name, old = self.check(parent, name, behavior)
        if self.used + blob.size > self.manners.quota:
            raise GraphFault(507, "quotaLimitReached", "The user has reached their quota limit.")
        self.used += blob.size
        if old is not None:
            assert old.blob is not None
            self.used -= old.blob.size
            old.blob, old.modified = blob, self.clock.now()
            old.content_version += 1
            self._touch(old)
            return old, False
        item = self._make(name, parent, blob)
        item.mime = mime or item.mime
        item.hash_kept_back = self.manners.late_hashes
        return item, True

    def write(self, path: str, content: bytes, behavior: str = "replace") -> Item:
        """What somebody else puts there, for tests."""
        above, _, name = path.rpartition("/")
        return self.put(self.folder(self.root, above), name, self.blobs.put(content), behavior)[0]

    def move(self, item: Item, parent: Item, name: str, behavior: str = "fail") -> Item:
        """Another name, another folder, or both. What is below is not told."""
        if item is self.root:
            raise GraphFault(400, "invalidRequest", "The root cannot be moved.")
        above: Item | None = parent
        while above is not None:
            if above is item:
                raise GraphFault(400, "invalidRequest", "A folder cannot be moved into itself.")
            above = self.items[above.parent] if above.parent is not None else None
        there = self._names.get(parent.id, {}).get(name.casefold())
        if there is not None and there != item.id:
            name, old = self.check(parent, name, behavior)
            if old is not None:
                self.remove(old)
        _check_name(name)
        assert item.parent is not None
        del self._names[item.parent][item.name.casefold()]
        item.parent, item.name = parent.id, name
        self._names.setdefault(parent.id, {})[name.casefold()] = item.id
        self._touch(item)
        return item

    def remove(self, item: Item) -> None:
        """Gone, with all below."""
        if item is self.root:
            raise GraphFault(400, "invalidRequest", "The root cannot be deleted.")
        self._remove(item, told=True)

    def _remove(self, item: Item, *, told: bool) -> None:
        for child in self.children(item):
            self._remove(child, told=self.manners.tells_children)
        assert item.parent is not None
        self._names[item.parent].pop(item.name.casefold(), None)
        if item.blob is not None:
            self.used -= item.blob.size
        item.deleted = True
        if told:
            self._touch(item)

    def touch(self, item: Item) -> None:
        """Metadata changed and nothing else."""
        self._touch(item)

    def expire_tokens(self) -> None:
        """Forget every token that was given out, those of runs in progress, too."""
        self._generation += 1
        self._horizon = len(self._log)

    def full_token(self) -> str:
        """Where a run over everything begins."""
        return self._token("full", 0, len(self._log))

    # The delta feed

    def delta(self, token: str | None, *, top: int | None = None, parents: bool = True) -> DeltaPage:
        """A page. 410 for a token that is forgotten, with the token of a fresh run in `headers`."""
        size = min(top or self.manners.page_size, self.manners.page_size)
        if token == "latest":
            return DeltaPage([], self._token("since", len(self._log)), more=False)
        if token and token[:2].isdigit() and "T" in token:
            return self._since(self._index_of(token), size, parents=parents)
        kind, place, start = self._read(token or self.full_token())
        return self._full(place, start, size) if kind == "full" else self._since(place, size, parents=parents)

    def row(self, item: Item, *, delta: bool = False) -> dict[str, Any]:
        """As Graph writes an item."""
        if item.deleted:
            return self._deleted_row(item)
        lean = delta and self.manners.business
        found: dict[str, Any] = {
            "id": item.id,
            "name": item.name,
            "size": item.blob.size if item.blob is not None else 0,
            "eTag": f'"{{{item.id}}},{item.version}"',
            "createdDateTime": _time(item.created),
            "lastModifiedDateTime": _time(item.modified),
            "webUrl": f"https://contoso.example/{self.id}/{item.id}",
            "parentReference": self._parent_row(item, lean=lean),
        }
        if not lean:
            found["cTag"] = f'"c:{{{item.id}}},{item.content_version}"'
        if item is self.root:
            found["root"] = {}
        if item.blob is None:
            found["folder"] = {"childCount": len(self._names.get(item.id, {}))}
        else:
            hashes = {"quickXorHash": base64.b64encode(item.blob.hashes["quick_xor"]).decode()}
            if item.hash_kept_back > 0:
                item.hash_kept_back -= 1
                hashes = {}
            found["file"] = {"mimeType": item.mime, "hashes": hashes}
        return found

    def _parent_row(self, item: Item, *, lean: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"driveId": self.id, "driveType": "documentLibrary"}
        if item.parent is not None:
            found["id"] = item.parent
            if not lean:
                above = self.path_of(self.items[item.parent])
                found["path"] = f"/drives/{self.id}/root:" + (f"/{quote(above)}" if above else "")
        return found

    def _deleted_row(self, item: Item) -> dict[str, Any]:
        found: dict[str, Any] = {
            "id": item.id,
            "parentReference": {"driveId": self.id, "driveType": "documentLibrary", "id": item.parent},
            "deleted": {"state": "deleted"},
        }
        found |= {"folder": {}} if item.folder else {"file": {}}
        return found if self.manners.business else {**found, "name": item.name}

    def _full(self, place: int, start: int, size: int) -> DeltaPage:
        rows: list[dict[str, Any]] = []
        if self._empty_turn():
            return DeltaPage([], self._token("full", place, start), more=True)
        while place < len(self._order) and len(rows) < size:
            item = self.items[self._order[place]]
            place += 1
            if not item.deleted and not (self.manners.leaves_changed_to_log and item.seq > start):
                rows += self._rows(item)
        if place < len(self._order):
            return DeltaPage(rows, self._token("full", place, start), more=True)
        return DeltaPage(rows, self._token("since", start), more=False)

    def _since(self, place: int, size: int, *, parents: bool) -> DeltaPage:
        if self._empty_turn() and place < len(self._log):
            return DeltaPage([], self._token("since", place), more=True)
        found: list[Item] = []
        while place < len(self._log) and len(found) < size:
            item = self.items[self._log[place][0]]
            place += 1
            if item.seq == place:  # otherwise it changed again later, and is told there
                found.append(item)
        rows: list[dict[str, Any]] = []
        told: set[str] = set()
        for item in found:
            if parents and self.manners.parent_rows:
                for above in self._above(item):
                    if above.id not in told:
                        told.add(above.id)
                        rows.append(self.row(above, delta=True))
            told.add(item.id)
            rows += self._rows(item)
        return DeltaPage(rows, self._token("since", place), more=place < len(self._log))

    def _rows(self, item: Item) -> list[dict[str, Any]]:
        twice = self.manners.repeat_rows > 0 and self._random.random() < self.manners.repeat_rows
        return [self.row(item, delta=True) for _ in range(1 + twice)]

    def _above(self, item: Item) -> list[Item]:
        found: list[Item] = []
        while item.parent is not None:
            item = self.items[item.parent]
            if item.deleted:
                break
            found.append(item)
        return found[::-1]

    def _empty_turn(self) -> bool:
        self._pages += 1
        return self.manners.empty_page_every > 0 and self._pages % self.manners.empty_page_every == 0

    def _token(self, kind: str, place: int, start: int = 0) -> str:
        text = json.dumps([kind, place, start, self._generation])
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def _read(self, token: str) -> tuple[str, int, int]:
        try:
            kind, place, start, generation = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        except ValueError:
            raise GraphFault(400, "invalidRequest", "The provided token is malformed.") from None
        known = start if kind == "full" else place
        if self.manners.token_life_changes is not None:
            self._horizon = max(self._horizon, len(self._log) - self.manners.token_life_changes)
        if generation != self._generation or (kind == "since" and known < self._horizon):
            raise GraphFault(410, self.manners.resync_code, "Resync required. Replace any local items.")
        return kind, place, start

    def _index_of(self, when: str) -> int:
        at = datetime.fromisoformat(when).timestamp()
        return next((index for index, (_, changed) in enumerate(self._log) if changed >= at), len(self._log))

    def _make(self, name: str, parent: Item | None, blob: Blob | None) -> Item:
        if parent is not None:
            _check_name(name)
        number = next(self._numbers)
        now = self.clock.now()
        item_id = f"{_FIRST_ID}{number:026d}"
        item = Item(item_id, name, parent.id if parent is not None else None, blob, now, now, len(self._order))
        self.items[item.id] = item
        self._order.append(item.id)
        if parent is not None:
            self._names.setdefault(parent.id, {})[name.casefold()] = item.id
        self._touch(item)
        return item

    def _touch(self, item: Item) -> None:
        item.version += 1
        self._log.append((item.id, self.clock.now()))
        item.seq = len(self._log)


def _check_name(name: str) -> None:
    wrong = not name or set(name) & _FORBIDDEN or name != name.strip() or name.endswith(".") or name.startswith("~$")
    if wrong or len(name.encode()) > 400:
        raise GraphFault(400, "invalidRequest", "The provided name cannot contain any of these characters.")


def _time(seconds: float) -> str:
    """To the second, as SharePoint keeps times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
