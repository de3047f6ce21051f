"""A schedule of faults in virtual time: three watchers, one drive, a Postgres and a Redis, all seeded by one number.

Watchers are the real machine, the real steps and the real rules of ownership; what is around them is a model. Every
call takes time before and after its effect, so a watcher is killed, stopped or overtaken between any two steps, and an
answer is lost after its effect. People meanwhile write, move and remove. At the end all heals, and then every version
that was observed at a committed cursor has been announced once, and the newest version of every file is observed.
"""

import heapq
import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

from loadtests.watching.model_drive import ROOT, ModelDrive
from loadtests.watching.model_ledger import ModelLedger, ModelStore, run_at_once
from shared.cloud.errors import CloudError, CursorExpired, RateLimited, StoreUnavailable
from shared.cloud.provider import Changed
from shared.store.errors import StoreError, TermOver
from shared.store.errors import StoreUnavailable as PostgresAway
from watcher.ownership import Ownership
from watcher.places import Place, locate
from watcher.remote.effects import Arrive, Effect, Fetch, List, Record, Settle, Sweep, Wait
from watcher.remote.feed_machine import FeedMachine, FeedStart, PollTimes
from watcher.remote.outcome import Hashed, NeedsHashes, Unreadable
from watcher.remote.steps import Steps

FEED = "drive:model"
DEVICES = ("truck-1", "truck-2", "truck-3")
TROUBLE_S = 150.0
HEAL_S = 120.0
TTL_S, TRUST_S, BEAT_S, SCAN_S, SILENCE_S = 30.0, 20.0, 10.0, 1.0, 15.0
# Where files may be, in the order in which they may be moved: so a file that comes anywhere was never there before.
PLACES = (
    "Drafts",
    *(f"{area}/{device}" for device in DEVICES for area in ("Requests", "Responses")),
    "Archive",
)

Actor: TypeAlias = Generator[float, None, None]


@dataclass(order=True)
class _Due:
    at: float
    number: int
    task: "_Task" = field(compare=False)


@dataclass(eq=False)
class _Task:
    actor: Actor
    watcher: "Watcher | None" = None
    due: _Due | None = None
    over: bool = False


class Broken(AssertionError):
    """What must hold did not."""


class World:
    """`run()` plays the schedule of a seed and checks it. Raises Broken."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rand = Random(seed)
        self.now = 0.0
        self._heap: list[_Due] = []
        self._numbers = itertools.count()
        # Each fifth is of a provider that keeps no log of changes and only lists.
        page = self.rand.choice([1, 2, 3, 5, 50])
        self.drive = ModelDrive(Random(seed ^ 0x5EED), page=page, name=FEED, log=seed % 5 != 4)
        self.store = ModelStore(DEVICES, lambda: self.now)
        self.postgres_up = True
        self.redis_up = True
        self.lock: tuple[str, float] | None = None
        self.provider_up = True
        self.storm = False
        self.unsure = 0.0
        self.heartbeats: dict[str, float] = {}
        self.observed: list[tuple[str, str, str]] = []
        self.faults: list[str] = []
        self.steps = 0
        self.baseline = self.rand.random() < 0.5
        self.watchers = [Watcher(self, f"w{number}") for number in range(3)]

    def run(self) -> None:
        """Play it."""
        self._settle_in()
        for watcher in self.watchers:
            watcher.start()
        self.begin(self._people())
        self.begin(self._fate())
        self._until(TROUBLE_S)
        self._heal()
        self._until(TROUBLE_S + HEAL_S)
        while self.store.tables.feed.more and not self.drive.keeps_log and self.now < TROUBLE_S + 2 * HEAL_S:
            # Each poll is a run of many pages; one that is under way at the end is let finish.
            self._until(self.now + 0.05)
        self._check()

    # Time.

    def begin(self, actor: Actor, watcher: "Watcher | None" = None) -> _Task:
        task = _Task(actor, watcher)
        self._plan(task, self.now)
        return task

    def wake(self, task: _Task) -> None:
        """Sooner than planned."""
        if not task.over and task.due is not None and task.due.at > self.now:
            self._plan(task, self.now)

    def _plan(self, task: _Task, at: float) -> None:
        task.due = _Due(at, next(self._numbers), task)
        heapq.heappush(self._heap, task.due)

    def _until(self, end: float) -> None:
        while self._heap and self._heap[0].at <= end:
            due = heapq.heappop(self._heap)
            task = due.task
            if task.over or task.due is not due:
                continue
            self.now = max(self.now, due.at)
            watcher = task.watcher
            if watcher is not None and watcher.stopped_until > self.now:
                self._plan(task, watcher.stopped_until)
                continue
            try:
                wait = next(task.actor)
            except StopIteration:
                task.over = True
                continue
            self._plan(task, self.now + max(0.0, wait))
        self.now = end

    # What happens to everything.

    def _settle_in(self) -> None:
        for place in PLACES:
            self.drive.folder(place)
        for _ in range(self.rand.randrange(8)):
            self._put_new()

    def _people(self) -> Actor:
        while self.now < TROUBLE_S:
            for _ in range(self.rand.choice([1, 1, 1, 4])):
                self._act()
            self.begin(self._hints())
            yield self.rand.expovariate(0.5)

    def _act(self) -> None:
        acts = [self._put_new, self._put_new, self._overwrite, self._touch, self._move, self._move_folder, self._remove]
        self.rand.choice(acts)()

    def _put_new(self) -> None:
        folder = self.rand.choice(PLACES[:-1])
        deeper = self.rand.choice(["", "", "/in", "/in/deep", f"/f{self.rand.randrange(3)}"])
        self.drive.put(f"{folder}{deeper}/n{next(self.drive.numbers)}.csv", str(self.rand.random()).encode())

    def _file(self) -> str | None:
        files = sorted(self.drive.files())
        return self.rand.choice(files) if files else None

    def _overwrite(self) -> None:
        if (item_id := self._file()) is not None:
            node = self.drive.nodes[item_id]
            node.content, node.edits = str(self.rand.random()).encode(), node.edits + 1
            self.drive.touch(item_id)

    def _touch(self) -> None:
        if (item_id := self._file()) is not None:
            self.drive.touch(item_id)

    def _move(self) -> None:
        if (item_id := self._file()) is not None:
            path = self.drive.files()[item_id]
            # Where a path is all that there is to know a file by, it must not come back to one.
            name = path.rpartition("/")[2] if self.drive.keeps_log else f"m{next(self.drive.numbers)}.csv"
            self.drive.move(item_id, self.drive.folder(self._later_place(path)), name)

    def _folders(self) -> list[str]:
        """Those that people made, below the places."""
        fixed = {self.drive.folder(place) for place in (*PLACES, "Requests", "Responses")} | {ROOT}
        return sorted(i for i, node in self.drive.nodes.items() if node.kind == "folder" and i not in fixed)

    def _move_folder(self) -> None:
        if not (folders := self._folders()):
            return
        folder_id = self.rand.choice(folders)
        path = self.drive.path_of(folder_id) or ""
        parent = self.drive.folder(self._later_place(path))
        name = f"r{next(self.drive.numbers)}"
        above: str | None = parent
        while above is not None:
            if above == folder_id:
                return
            above = self.drive.nodes[above].parent
        self.drive.move(folder_id, parent, name)

    def _later_place(self, path: str) -> str:
        rank = max(number for number, place in enumerate(PLACES) if path.startswith(f"{place}/"))
        place = PLACES[self.rand.choice([rank, rank, self.rand.randrange(rank, len(PLACES))])]
        return place + self.rand.choice(["", "/in", f"/f{self.rand.randrange(3)}"])

    def _remove(self) -> None:
        candidates = [*sorted(self.drive.files()), *self._folders()]
        if candidates:
            self.drive.remove(self.rand.choice(candidates))

    def _hints(self) -> Actor:
        """A call of the provider: dropped, late, repeated; they overtake one another."""
        for _ in range(self.rand.choice([0, 1, 1, 2])):
            yield self.rand.choice([0.05, 0.2, self.rand.uniform(0, 30)])
            if self.redis_up:
                for watcher in self.watchers:
                    watcher.hint()

    def _fate(self) -> Actor:
        fates: list[Callable[[], Iterator[float]]] = [
            self._kill,
            self._kill,
            self._stop,
            self._stop,
            self._flush,
            self._redis_away,
            self._postgres_restart,
            self._postgres_restart,
            self._expire,
            self._expire,
            self._storm,
            self._provider_away,
        ]
        yield self.rand.uniform(0, 10)
        while self.now < TROUBLE_S:
            fate = self.rand.choice(fates)
            self.faults.append(f"{self.now:.1f} {fate.__name__}")
            self.begin(fate())  # type: ignore[arg-type]
            yield self.rand.expovariate(1 / 8)

    def _kill(self) -> Iterator[float]:
        watcher = self.rand.choice(self.watchers)
        watcher.kill()
        yield self.rand.choice([0.5, self.rand.uniform(1, 60)])
        watcher.start()

    def _stop(self) -> Iterator[float]:
        watcher = self.rand.choice(self.watchers)
        watcher.stopped_until = max(watcher.stopped_until, self.now + self.rand.choice([3, 12, 25, 35, 60]))
        yield 0.0

    def _flush(self) -> Iterator[float]:
        self.lock = None
        yield 0.0

    def _redis_away(self) -> Iterator[float]:
        self.redis_up = False
        yield self.rand.uniform(1, 60)
        self.redis_up, self.lock = True, None

    def _postgres_restart(self) -> Iterator[float]:
        self.postgres_up = False
        yield self.rand.uniform(0.2, 12)
        self.postgres_up = True
        # Some commits of the last moment were made though nobody heard of it.
        self.unsure = 0.3

    def _expire(self) -> Iterator[float]:
        self.drive.expire()
        if self.rand.random() < 0.3:
            yield self.rand.uniform(0, 2)
            self.drive.expire()

    def _storm(self) -> Iterator[float]:
        self.storm = True
        yield self.rand.uniform(1, 20)
        self.storm = False

    def _provider_away(self) -> Iterator[float]:
        self.provider_up = False
        yield self.rand.uniform(1, 15)
        self.provider_up = True

    def _heal(self) -> None:
        self.postgres_up = self.redis_up = self.provider_up = True
        self.storm, self.unsure = False, 0.0
        for watcher in self.watchers:
            watcher.stopped_until = 0.0
            watcher.start()

    # What watchers ask for.

    def ask_provider(self) -> None:
        """Raises what the provider answers instead."""
        if self.storm:
            raise RateLimited("storm", retry_after_s=self.rand.uniform(0.5, 5))
        if not self.provider_up:
            raise StoreUnavailable("away")

    def commit(self, term: int, work: Callable[[ModelLedger], Any]) -> Any:
        """A transaction, whose answer may get lost after it."""
        if not self.postgres_up:
            raise PostgresAway("restarting")
        answer = self.store.transaction(term, work)
        if self.rand.random() < 0.01 + self.unsure:
            self.unsure = 0.0
            raise PostgresAway("the answer was lost")
        return answer

    def on_committed(self, record: Record, ledger: ModelLedger) -> None:
        """Note what was observed where it was known to be."""
        last = {one.item_id: one for one in record.page.changes}
        for one in last.values():
            if not isinstance(one, Changed) or one.kind != "file" or one.version is None:
                continue
            path = one.path
            if path is None:
                folder = run_at_once(ledger.placed([one.parent_id or ""]))[one.parent_id or ""].path
                path = f"{folder}/{one.name}" if folder is not None else None
            place = locate(path) if path is not None else None
            if isinstance(place, Place) and not (record.baseline and place.area == "response"):
                self.observed.append((one.item_id, one.version, place.area))

    # What must hold.

    def _check(self) -> None:
        tables, drive = self.store.tables, self.drive
        there = {item_id: at for item_id, at in drive.there().items() if isinstance(locate(at[0]), Place)}
        files = {item_id: path for item_id, (path, _) in there.items()}
        ledger = {item_id: row.item.path for item_id, row in tables.items.items()}
        self._hold(ledger == files, "ledger is the drive", {"ledger": ledger, "drive": files})
        newest = {item_id: version for item_id, (_, version) in there.items()}
        known = {item_id: row.item.version for item_id, row in tables.items.items()}
        self._hold(known == newest, "newest versions are observed", {"known": known, "newest": newest})
        times: dict[tuple[str, str, str, str], int] = {}
        for one in tables.announced:
            key = (one.item_id, one.version, one.area, one.device_id)
            times[key] = times.get(key, 0) + 1
        twice = [key for key, count in times.items() if count > 1]
        self._hold(not twice, "nothing is announced twice", twice)
        terms = [one.term for one in tables.announced]
        self._hold(terms == sorted(terms), "no term has an effect after a later one", terms)
        for item_id, row in tables.items.items():
            key = (item_id, row.item.version, row.item.area, row.item.device_id)
            good = row.item.state == "baseline" or (row.item.state == "announced" and times.get(key) == 1)
            self._hold(good, "what is there is announced", (key, row))
        announced = {(one.item_id, one.version) for one in tables.announced}
        edits: dict[str, int] = {}
        for one in tables.announced:
            edits[one.item_id] = max(edits.get(one.item_id, -1), _edits(one.version))
        for item_id, version, area in self.observed:
            # The content of a response that was replaced before it could be read is nowhere any more.
            replaced = area == "response" and (
                edits.get(item_id, -1) > _edits(version)
                or (item_id in files and _edits(newest[item_id]) > _edits(version))
                or item_id not in files
            )
            is_told = (item_id, version) in announced or (item_id, version) in self.store.baseline or replaced
            self._hold(is_told, "what was observed is announced", (item_id, version, area))
        self._hold(tables.feed.phase == "changes" and not tables.feed.more, "the feed has caught up", tables.feed)
        self._hold(not any(row.leaving for row in tables.items.values()), "nothing is left in doubt", tables.items)

    def _hold(self, holds: bool, what: str, detail: object) -> None:
        if not holds:
            raise Broken(f"seed {self.seed}: not so: {what}: {detail}; faults: {', '.join(self.faults)}")


def _edits(version: str) -> int:
    return int(version.removeprefix("qx:").partition("-")[0])


class Watcher:
    """A process: leases by the real rules, and the feed while it holds it."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.stopped_until = 0.0
        self.alive = False
        self._tasks: list[_Task] = []
        self._feed: _Task | None = None
        self._hinted = False
        self._owned = Ownership(name, [FEED], trust_s=TRUST_S)

    def start(self) -> None:
        """As a new process of the same name; nothing when it runs."""
        if self.alive:
            return
        self.alive = True
        self._owned = Ownership(self.name, [FEED], trust_s=TRUST_S)
        self._tasks = [self.world.begin(self._scan(), self), self.world.begin(self._beat(), self)]

    def kill(self) -> None:
        """It ends wherever it is."""
        self.alive = False
        self.stopped_until = 0.0
        for task in (*self._tasks, *([self._feed] if self._feed is not None else [])):
            task.over = True
        self._feed = None

    def hint(self) -> None:
        """The bus says that there may be changes."""
        self._hinted = True
        if self._feed is not None:
            self.world.wake(self._feed)

    def _travel(self) -> float:
        return self.world.rand.choice([0.001, 0.01, self.world.rand.uniform(0, 0.3)])

    # Leases.

    def _scan(self) -> Actor:
        world, owned = self.world, self._owned
        while True:
            yield self._travel()
            if world.postgres_up:
                world.heartbeats[self.name] = world.now
                live = [name for name, at in world.heartbeats.items() if world.now - at < SILENCE_S]
                lease = world.store.lease
                holders = {FEED: lease.owner} if lease.owner is not None and lease.expires_at > world.now else {}
                owned.on_members(live, list(world.heartbeats), holders)
                for feed in owned.to_give_away():
                    yield from self._give_away(feed)
                if owned.to_claim() and world.store.lease.expires_at <= world.now:
                    yield from self._claim()
            yield SCAN_S * world.rand.uniform(0.8, 1.2)

    def _give_away(self, feed: str) -> Actor:
        world, owned = self.world, self._owned
        term = owned.held[feed].term
        yield self._travel()
        if self._feed is not None:
            self._feed.over = True
            self._feed = None
        lease = world.store.lease
        if world.postgres_up and lease.owner == self.name and lease.term == term:
            lease.owner, lease.expires_at = None, float("-inf")
            if world.lock is not None and world.lock[0] == self.name:
                world.lock = None
        owned.drop(feed, term)

    def _claim(self) -> Actor:
        world, owned = self.world, self._owned
        if world.redis_up:
            if world.lock is not None and world.lock[0] != self.name and world.lock[1] > world.now:
                return
            world.lock = (self.name, world.now + TTL_S)
        started = world.now
        yield self._travel()
        lease = world.store.lease
        if not world.postgres_up or lease.expires_at > world.now:
            return
        lease.owner, lease.term, lease.expires_at = self.name, lease.term + 1, world.now + TTL_S
        term = lease.term
        yield self._travel()
        owned.on_claimed({FEED: term}, started)
        if self._feed is not None:
            self._feed.over = True
        self._feed = world.begin(self._follow(term), self)

    def _beat(self) -> Actor:
        world, owned = self.world, self._owned
        while True:
            yield BEAT_S * world.rand.uniform(0.9, 1.1)
            asked = owned.terms()
            if not asked:
                continue
            started = world.now
            yield self._travel()
            fine = world.postgres_up
            if fine:
                lease = world.store.lease
                renewed = {FEED} if lease.owner == self.name and lease.term == asked[FEED] else set()
                if renewed:
                    lease.expires_at = world.now + TTL_S
                yield self._travel()
                owned.on_renewed(asked, renewed, started)
            if world.redis_up:
                if world.lock is None or world.lock[0] == self.name or world.lock[1] <= world.now:
                    if owned.believed(FEED, world.now):
                        world.lock = (self.name, world.now + TTL_S)
                else:
                    owned.on_taken(FEED, asked[FEED])
            if not fine:
                yield 1.0

    # The feed.

    def _follow(self, term: int) -> Actor:
        world = self.world
        while not world.postgres_up:
            yield 0.5
        tables = world.store.tables
        feed = tables.feed
        unsettled = any(row.unsettled for row in tables.folders.values()) or bool(tables.unplaced)
        unsettled = unsettled or any(row.leaving for row in tables.items.values())
        start = FeedStart(
            cursor=feed.cursor,
            phase=feed.phase,
            more=feed.more,
            generation=feed.generation,
            baselined=feed.baselined,
            unsettled=unsettled,
            scanned_age_s=0.0,
        )
        machine = FeedMachine(start, PollTimes(), world.rand, world.now, baseline=world.baseline)
        while self._owned.holds(FEED, term):
            if not self._owned.trusted(FEED, term, world.now):
                yield 1.0
                continue
            if self._hinted:
                self._hinted = False
                machine.on_hint(world.now)
            if world.rand.random() < 0.05:
                machine.on_arrivals()
            effect = machine.next(world.now)
            if isinstance(effect, Wait):
                # The watcher looks for files that can be taken up by now and then.
                yield min(effect.until - world.now, 5.0)
                continue
            world.steps += 1
            try:
                yield from self._do(machine, effect, term)
            except TermOver:
                self._owned.drop(FEED, term)
                return
            except CursorExpired as error:
                machine.on_expired(error.restart, world.now)
            except RateLimited as error:
                if isinstance(effect, Fetch | List):
                    machine.on_limited(error.retry_after_s, world.now)
                else:
                    machine.on_content_failed(error.retry_after_s, world.now)
            except CloudError:
                if isinstance(effect, Fetch | List):
                    machine.on_cloud_failed(world.now)
                else:
                    machine.on_content_failed(1.0, world.now)
            except StoreError:
                machine.on_store_failed(world.now)

    def _do(self, machine: FeedMachine, effect: Effect, term: int) -> Actor:
        world = self.world
        yield self._travel()
        if isinstance(effect, Fetch):
            world.ask_provider()
            page = world.drive.page_after(effect.cursor)
            yield self._travel()
            machine.on_fetched(page, world.now)
        elif isinstance(effect, Record):
            told = yield from self._hashing(term, lambda steps: _page(world, steps, effect))
            yield self._travel()
            machine.on_recorded(world.now, unsettled=told)
        elif isinstance(effect, Settle):
            settled = yield from self._hashing(term, lambda steps: steps.settle(effect))
            yield self._travel()
            machine.on_settled(more=settled.more, to_list=settled.to_list, doubts=settled.doubts)
        elif isinstance(effect, List):
            yield from self._list(effect, term)
            machine.on_listed()
        elif isinstance(effect, Sweep):
            reach = yield from self._hashing(term, lambda steps: steps.sweep(effect.generation, effect.above))
            yield self._travel()
            machine.on_swept(reach, world.now)
        elif isinstance(effect, Arrive):
            more = yield from self._hashing(term, lambda steps: steps.arrive())
            machine.on_arrived(more=more)

    def _list(self, effect: List, term: int) -> Actor:
        world = self.world
        world.ask_provider()
        folders = world.store.tables.folders
        ledger = ModelLedger(world.store, world.store.tables, term)
        paths = {ledger._where(item_id).path: item_id for item_id in folders}
        found = list(world.drive.objects(effect.path))
        yield self._travel()
        for start in range(0, len(found), 3):
            here = [(one, paths.get(one.path.rpartition("/")[0])) for one in found[start : start + 3]]
            some = [(one, parent) for one, parent in here if parent is not None]
            yield from self._hashing(term, lambda steps, some=some: steps.listed(effect, some))  # type: ignore[misc]
            yield self._travel()
        yield from self._hashing(term, lambda steps: steps.ledger.settled(effect.folder_id))

    def _hashing(self, term: int, step: Callable[[Steps], Any]) -> Generator[float, None, Any]:
        world = self.world
        hashes: dict[tuple[str, str], Hashed | Unreadable] = {}
        for _ in range(20):
            try:
                return world.commit(term, lambda ledger: step(Steps(ledger, hashes)))
            except NeedsHashes as needs:
                contents = needs.contents
            for content in contents:
                yield self._travel()
                world.ask_provider()
                found = run_at_once(world.drive.look(content.path, object_id=content.object_id))
                yield self._travel()
                if found is None:
                    hashes[content.item_id, content.version] = Unreadable(2.0)
                else:
                    hashes[content.item_id, content.version] = Hashed(found.version, found.size, "0" * 64)
        raise StoreUnavailable("files change faster than they are read")


async def _page(world: World, steps: Steps, record: Record) -> bool:
    await steps.page(record)
    ledger = steps.ledger
    assert isinstance(ledger, ModelLedger), "the world's ledgers are models"
    world.on_committed(record, ledger)
    return steps.told.unsettled
