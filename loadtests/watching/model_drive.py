"""A drive that keeps a log of changes, in memory: what a feed follows in these tests, with all that providers may do.

Pages are small, items come more than once and in any order, a folder that goes takes what is below it without a word,
and cursors are forgotten when the test says so.
"""

import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

from shared.cloud.errors import CursorExpired, NotFound
from shared.cloud.provider import (
    Capabilities,
    Change,
    Changed,
    ChangePage,
    Object,
    Removed,
    Span,
    Subscription,
    stat_of_object,
)
from shared.cloud.store import Stat

ROOT = "root-id"


@dataclass
class Node:
    kind: str
    parent: str | None
    name: str
    content: bytes = b""
    edits: int = 0

    @property
    def version(self) -> str:
        return f"qx:{self.edits}-{hashlib.md5(self.content).hexdigest()[:8]}"


class ModelReader:
    def __init__(self, found: Object, content: bytes) -> None:
        self._found = found
        self._content = content

    @property
    def stat(self) -> Stat:
        return stat_of_object(self._found)

    async def chunks(self, start: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        yield self._content[start:]


class ModelDrive:
    """The drive itself, and its provider. `told` is every (item, version) that a page told."""

    def __init__(
        self, rand: Random | None = None, *, page: int = 3, name: str = "drive:model", log: bool = True
    ) -> None:
        self.name = name
        self.rand = rand or Random(1)
        self.page = page
        self.nodes: dict[str, Node] = {ROOT: Node("root", None, "")}
        self.log: list[str] = [ROOT]
        self.age = 0
        self.numbers = iter(range(1, 10_000_000))
        self.fail: list[Exception] = []
        self.unreadable: dict[str, Exception] = {}
        self.asked = 0
        self.reads = 0
        self.subscriptions: dict[str, Subscription] = {}
        self.ended: list[str] = []
        self.push = False
        self._chains: dict[int, list[str]] = {}
        self.keeps_log = log

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(
            changes="delta" if self.keeps_log else "listing",
            push=self.push,
            names_unique=True,
            case_sensitive=True,
            moves=True,
            hashes=frozenset({"quick_xor"}),
            single_max=1 << 20,
            part_multiple=1,
            part_min=1,
            part_max=1 << 20,
            parts_at_once=1,
        )

    # What people do to it.

    def folder(self, path: str) -> str:
        """The folder of that path, made if need be."""
        here = ROOT
        for name in filter(None, path.split("/")):
            found = self._child(here, name)
            if found is None:
                found = self._new(Node("folder", here, name))
            here = found
        return here

    def put(self, path: str, content: bytes = b"content") -> str:
        """A new file, or new content of the one that is there."""
        folder, _, name = path.rpartition("/")
        parent = self.folder(folder)
        found = self._child(parent, name)
        if found is None:
            return self._new(Node("file", parent, name, content))
        node = self.nodes[found]
        node.content = content
        node.edits += 1
        self.touch(found)
        return found

    def move(self, item_id: str, folder_id: str, name: str | None = None) -> None:
        node = self.nodes[item_id]
        node.parent, node.name = folder_id, name or node.name
        self.touch(item_id)

    def remove(self, item_id: str) -> None:
        """With all below it, of which the log says nothing."""
        for child in [child for child, node in self.nodes.items() if node.parent == item_id]:
            self._drop(child)
        del self.nodes[item_id]
        self.touch(item_id)

    def touch(self, item_id: str) -> None:
        self.log.append(item_id)

    def expire(self) -> None:
        """All cursors are forgotten."""
        self.age += 1

    def path_of(self, item_id: str) -> str | None:
        names: list[str] = []
        here: str | None = item_id
        while here is not None and here != ROOT:
            node = self.nodes.get(here)
            if node is None:
                return None
            names.append(node.name)
            here = node.parent
        return "/".join(reversed(names)) if here == ROOT else None

    def files(self) -> dict[str, str]:
        """Path of each file, by id."""
        paths = {item_id: self.path_of(item_id) for item_id, node in self.nodes.items() if node.kind == "file"}
        return {item_id: path for item_id, path in paths.items() if path is not None}

    def _child(self, parent: str, name: str) -> str | None:
        return next((i for i, node in self.nodes.items() if node.parent == parent and node.name == name), None)

    def _new(self, node: Node) -> str:
        item_id = f"{node.kind}-{next(self.numbers):06d}"
        self.nodes[item_id] = node
        self.touch(item_id)
        return item_id

    def _drop(self, item_id: str) -> None:
        for child in [child for child, node in self.nodes.items() if node.parent == item_id]:
            self._drop(child)
        del self.nodes[item_id]

    # The provider.

    async def changes(self, cursor: str | None, *, partition: int | None = None) -> ChangePage:
        return self.page_after(cursor)

    def page_after(self, cursor: str | None) -> ChangePage:
        """What `changes` says, without waiting."""
        self.asked += 1
        if self.fail:
            raise self.fail.pop(0)
        if not self.keeps_log:
            return self._listing(cursor)
        kind, age, start, upto, offset, seed = _parsed(cursor)
        if kind == "f" and cursor is None:
            age, upto, seed = self.age, len(self.log), self.rand.getrandbits(30)
        if age != self.age:
            raise CursorExpired("forgotten")
        if kind == "d" and upto < 0:
            upto, seed = len(self.log), self.rand.getrandbits(30)
        ids = self._ids(kind, start, upto, seed)
        told = ids[offset : offset + self.page]
        more = offset + self.page < len(ids)
        after = f"{kind}:{age}:{start}:{upto}:{offset + self.page}:{seed}" if more else f"d:{age}:{upto}:-1:0:0"
        return ChangePage([self._change(item_id) for item_id in told], after, more=more, full=kind == "f")

    def _ids(self, kind: str, start: int, upto: int, seed: int) -> list[str]:
        """Told in an order of its own, some twice; a run over everything leaves out what had gone when it began."""
        if seed not in self._chains:
            order = Random(seed)
            told = set(self.log[start:upto])
            ids = sorted(item_id for item_id in told if kind != "f" or item_id in self.nodes)
            ids += order.sample(ids, len(ids) // 4)
            order.shuffle(ids)
            self._chains[seed] = ids
        return self._chains[seed]

    def _change(self, item_id: str) -> Change:
        node = self.nodes.get(item_id)
        if node is None:
            return Removed(item_id)
        if node.kind == "file":
            return Changed(
                item_id, "file", parent_id=node.parent, name=node.name, size=len(node.content), version=node.version
            )
        return Changed(item_id, "root" if node.kind == "root" else "folder", parent_id=node.parent, name=node.name)

    def _listing(self, cursor: str | None) -> ChangePage:
        above = (cursor or "").removeprefix("upto:")
        files = sorted((path, item_id) for item_id, path in self.files().items() if path > above)
        told = [
            Changed(path, "file", path=path, size=len(self.nodes[i].content), version=self.nodes[i].version)
            for path, i in files[: self.page]
        ]
        if len(files) <= self.page:
            return ChangePage(told, "", more=False, full=True, span=Span(above, None))
        upto = told[-1].item_id
        return ChangePage(told, f"upto:{upto}", more=True, full=True, span=Span(above, upto))

    def there(self) -> dict[str, tuple[str, str]]:
        """(path, version) of each file, by the id that pages tell of it."""
        return {
            item_id if self.keeps_log else path: (path, self.nodes[item_id].version)
            for item_id, path in self.files().items()
        }

    async def list(self, folder: str) -> AsyncIterator[Object]:
        for found in self.objects(folder):
            yield found

    def objects(self, folder: str) -> Iterator[Object]:
        for item_id, path in list(self.files().items()):
            if path.startswith(f"{folder}/"):
                node = self.nodes[item_id]
                yield Object(item_id, path, len(node.content), node.version)

    async def look(self, path: str, *, object_id: str | None = None) -> Object | None:
        item_id = object_id if object_id in self.nodes else self._at(path)
        if item_id is None:
            return None
        node = self.nodes[item_id]
        return Object(item_id, self.path_of(item_id) or path, len(node.content), node.version)

    @asynccontextmanager
    async def open(self, path: str, *, object_id: str | None = None) -> AsyncIterator[ModelReader]:
        self.reads += 1
        if path in self.unreadable:
            raise self.unreadable[path]
        found = await self.look(path, object_id=object_id)
        if found is None:
            raise NotFound(path)
        yield ModelReader(found, self.nodes[found.object_id].content)

    def _at(self, path: str) -> str | None:
        return next((item_id for item_id, there in self.files().items() if there == path), None)

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        if self.fail:
            raise self.fail.pop(0)
        made = Subscription(f"sub-{next(self.numbers)}", None, self.clock() + lifetime_s)
        self.subscriptions[made.subscription_id] = made
        return made

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        if subscription.subscription_id not in self.subscriptions:
            raise NotFound("subscription")
        return await self.subscribe(address, secret, lifetime_s=lifetime_s)

    async def unsubscribe(self, subscription: Subscription) -> None:
        self.subscriptions.pop(subscription.subscription_id, None)
        self.ended.append(subscription.subscription_id)

    def clock(self) -> float:
        from shared import clock

        return clock.wall()

    async def close(self) -> None:
        return None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"a feed does not ask for {name}")


def _parsed(cursor: str | None) -> tuple[str, int, int, int, int, int]:
    if cursor is None:
        return ("f", 0, 0, 0, 0, 0)
    kind, *numbers = cursor.split(":")
    age, start, upto, offset, seed = (int(number) for number in numbers)
    return (kind, age, start, upto, offset, seed)


def contents(drive: ModelDrive, paths: Sequence[str]) -> dict[str, str]:
    """sha256 by path."""
    by_path = {path: item_id for item_id, path in drive.files().items()}
    return {path: hashlib.sha256(drive.nodes[by_path[path]].content).hexdigest() for path in paths}
