"""A feed of a cloud provider under one term: does what the machine says, one step after the other.

Nothing is begun while the lease is not trusted, and a step that Postgres refuses because the term is over ends the feed
here. Trouble at the provider, trouble at Postgres and being asked to come back later are told to the machine, which
says when to go on. The provider's subscriptions have a task of their own beside it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

import structlog

from shared import clock
from shared.backoff import Backoff
from shared.cloud.errors import CloudError, CursorExpired, RateLimited, StoreUnavailable
from shared.cloud.provider import Object, Provider
from shared.store import remote_feeds, remote_items
from shared.store.errors import StoreError, TermOver
from shared.store.pool import Pool
from shared.telemetry.metrics import FEED_POLLS, FEED_RESYNCS
from watcher.record import PageRefused
from watcher.remote.effects import Arrive, Effect, Fetch, List, Record, Settle, Sweep, Wait
from watcher.remote.feed_machine import FeedMachine, FeedStart, PollTimes
from watcher.remote.hashing import Hasher
from watcher.remote.outcome import Hashes, NeedsHashes
from watcher.remote.record import RemoteRecorder
from watcher.remote.subscriber import Subscriber
from watcher.tasks import beside, woken

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_FETCH_S: Final = 120.0
_HASH_ROUNDS: Final = 10
_LIST_BATCH: Final = 200
_UNTRUSTED_S: Final = 1.0
_SAY_EVERY: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoteTools:
    """What the feeds of one store share. Without `hooks_url` the provider is not asked to call us."""

    pool: Pool
    provider: Provider
    recorder: RemoteRecorder
    times: PollTimes
    take_baseline: bool
    hooks_url: str | None
    lifetime_s: float
    rand: Random


class RemoteFeed:
    """The feed `feed_id` under `term`, as long as `trusted()`."""

    def __init__(
        self, feed_id: str, partition: int | None, term: int, *, trusted: Callable[[], bool], tools: RemoteTools
    ) -> None:
        self.feed_id = feed_id
        self.term = term
        self.store = tools.provider.name
        self._partition = partition
        self._trusted = trusted
        self._tools = tools
        self._machine: FeedMachine | None = None
        self._hasher = Hasher(tools.provider, self.on_arrivals)
        self._subscriber = Subscriber(feed_id, term, trusted=trusted, tools=tools)
        self._wake = asyncio.Event()
        self._stopping = False
        self._hinted = self._arrivals = self._asked = False
        self._run_began_at = 0.0
        self._run_items = 0
        # Where a provider only lists, a run over everything is a poll like others.
        self._is_poll = False
        self._trouble: str | None = None

    def __repr__(self) -> str:
        return f"RemoteFeed({self.feed_id}, term {self.term}, {self._machine!r})"

    def status(self) -> dict[str, object]:
        """For whoever looks at the process: what the feed is doing."""
        machine = self._machine
        if machine is None:
            return {"phase": "starting", "term": self.term}
        status: dict[str, object] = {
            "phase": machine.phase,
            "term": self.term,
            "generation": machine.generation,
            "pages": machine.pages,
            "lag_s": round(self.lag_s() or 0.0, 3),
        }
        if machine.phase != "changes":
            status["items_seen"] = self._run_items
        if self._trouble is not None:
            status["trouble"] = self._trouble
        return status

    def lag_s(self) -> float | None:
        """For how long the provider may have had news that nobody asked for."""
        return None if self._machine is None else max(0.0, clock.monotonic() - self._machine.caught_up_at)

    @property
    def run_items(self) -> int:
        """What a run over everything that goes on was told so far."""
        return self._run_items if self._machine is not None and self._machine.phase != "changes" else 0

    # What others tell.

    def on_hint(self, *, doubted: bool = False) -> None:
        """The provider called; `doubted`: it said that its subscription ends."""
        self._hinted = True
        if doubted:
            self._subscriber.doubt()
        self._wake.set()

    def on_arrivals(self) -> None:
        """Files that waited can be taken up."""
        self._arrivals = True
        self._wake.set()

    def on_full_asked(self) -> None:
        """Somebody wants a run over everything."""
        self._asked = True
        self._wake.set()

    def wake(self) -> None:
        """The lease was renewed."""
        self._wake.set()

    def stop(self) -> None:
        """Finish the step and begin no other."""
        self._stopping = True
        self._wake.set()
        self._subscriber.stop()

    # The tasks.

    async def run(self) -> None:
        """Until stopped. Raises TermOver, and what a bug raises."""
        loops = {
            f"follow {self.feed_id}": self._follow(),
            f"subscriptions of {self.feed_id}": self._subscriber.run(),
        }
        try:
            async with beside(loops) as (follow, _):
                if self._stopping:
                    await follow
        finally:
            await self._hasher.close()

    async def _follow(self) -> None:
        machine = await self._begin()
        while machine is not None and not self._stopping:
            if not self._trusted():
                await woken(self._wake, _UNTRUSTED_S)
                continue
            now = clock.monotonic()
            self._tell(machine, now)
            effect = machine.next(now)
            if isinstance(effect, Wait):
                await woken(self._wake, effect.until - now)
            else:
                await self._try(machine, effect)

    async def _begin(self) -> FeedMachine | None:
        tools = self._tools
        backoff = Backoff(tools.rand, base=0.1, cap=2.0)
        while not self._stopping:
            try:
                state = await remote_feeds.state(tools.pool, self.feed_id)
            except StoreError as error:
                self._say_trouble(f"feed cannot be read: {error}")
                await asyncio.sleep(backoff.next())
                continue
            if state is None:
                raise AssertionError("a leased feed has a row")
            start = FeedStart(
                cursor=state.cursor,
                phase=state.phase,
                more=state.more,
                generation=state.generation,
                baselined=state.baselined,
                unsettled=state.unsettled,
                scanned_age_s=state.scanned_age_s,
                full_asked=state.full_asked,
            )
            self._run_items = state.full_items
            self._run_began_at = clock.monotonic()
            self._machine = FeedMachine(start, tools.times, tools.rand, clock.monotonic(), baseline=tools.take_baseline)
            return self._machine
        return None

    def _tell(self, machine: FeedMachine, now: float) -> None:
        if self._hinted:
            self._hinted = False
            machine.on_hint(now)
        if self._arrivals:
            self._arrivals = False
            machine.on_arrivals()
        if self._asked:
            self._asked = False
            machine.on_full_asked()

    async def _try(self, machine: FeedMachine, effect: Effect) -> None:
        asks = isinstance(effect, Fetch | List)
        try:
            await self._do(machine, effect)
            self._trouble = None
        except TermOver:
            raise
        except CursorExpired as error:
            _log.warning("cursor expired, reading everything anew", feed=self.feed_id)
            machine.on_expired(error.restart, clock.monotonic())
        except RateLimited as error:
            self._say_trouble(f"asked too often, {error.retry_after_s:.0f} s to wait")
            if asks:
                machine.on_limited(error.retry_after_s, clock.monotonic())
            else:
                machine.on_content_failed(error.retry_after_s, clock.monotonic())
        except (CloudError, TimeoutError) as error:
            self._say_trouble(str(error) or type(error).__name__)
            if asks:
                machine.on_cloud_failed(clock.monotonic())
            else:
                machine.on_content_failed(1.0, clock.monotonic())
        except (StoreError, PageRefused) as error:
            self._say_trouble(f"not recorded: {error}")
            machine.on_store_failed(clock.monotonic())

    async def _do(self, machine: FeedMachine, effect: Effect) -> None:
        recorder, feed_id, term = self._tools.recorder, self.feed_id, self.term
        if isinstance(effect, Fetch):
            async with asyncio.timeout(_FETCH_S):
                page = await self._tools.provider.changes(effect.cursor, partition=self._partition)
            FEED_POLLS.labels(self.store, "news" if page.changes else "nothing").inc()
            machine.on_fetched(page, clock.monotonic())
        elif isinstance(effect, Record):
            await self._record(machine, effect)
        elif isinstance(effect, Settle):
            settled = await self._with_hashes(lambda hashes: recorder.settle(feed_id, term, effect, hashes))
            machine.on_settled(more=settled.more, to_list=settled.to_list, doubts=settled.doubts)
        elif isinstance(effect, List):
            await self._list(effect)
            machine.on_listed()
        elif isinstance(effect, Sweep):
            await self._sweep(machine, effect)
        elif isinstance(effect, Arrive):
            more = await self._with_hashes(lambda hashes: recorder.arrive(feed_id, term, hashes))
            machine.on_arrived(more=more)

    async def _record(self, machine: FeedMachine, effect: Record) -> None:
        recorder = self._tools.recorder
        told = await self._with_hashes(lambda hashes: recorder.page(self.feed_id, self.term, effect, hashes))
        machine.on_recorded(clock.monotonic(), unsettled=told.unsettled)
        if effect.full:
            self._say_progress(machine, effect)
        if effect.ends:
            self._say_read()

    async def _list(self, effect: List) -> None:
        tools = self._tools
        paths = await remote_items.folder_paths(tools.pool, self.feed_id, effect.folder_id, effect.path)
        batch: list[tuple[Object, str | None]] = []

        async def record() -> None:
            found = list(batch)
            await self._with_hashes(
                lambda hashes: tools.recorder.listed(self.feed_id, self.term, effect, found, hashes)
            )
            batch.clear()

        async for one in tools.provider.list(effect.path):
            # What lies in a folder that nobody told of yet is listed when it is told.
            if (parent := paths.get(one.path.rpartition("/")[0])) is not None:
                batch.append((one, parent))
            if len(batch) >= _LIST_BATCH:
                await record()
        if batch:
            await record()
        await tools.recorder.folder_listed(self.feed_id, self.term, effect.folder_id)

    async def _sweep(self, machine: FeedMachine, effect: Sweep) -> None:
        reach = await self._tools.recorder.sweep(self.feed_id, self.term, effect.generation, effect.above)
        machine.on_swept(reach, clock.monotonic())
        if reach is None:
            self._say_read()

    async def _with_hashes(self, step: Callable[[Hashes], Awaitable[T]]) -> T:
        hashes: dict[tuple[str, str], object] = {}
        for _ in range(_HASH_ROUNDS):
            try:
                return await step(hashes)  # type: ignore[arg-type]
            except NeedsHashes as needs:
                hashes.update(await self._hasher.hashes(needs.contents))
        raise StoreUnavailable("files change faster than they are read")

    def _say_progress(self, machine: FeedMachine, effect: Record) -> None:
        if effect.begins is not None:
            self._run_began_at, self._run_items = clock.monotonic(), 0
            lists = self._tools.provider.capabilities.changes == "listing"
            self._is_poll = lists and effect.begins == "provider"
            if not self._is_poll:
                FEED_RESYNCS.labels(self.store, effect.begins).inc()
                _log.info("reading everything", feed=self.feed_id, reason=effect.begins, generation=machine.generation)
        self._run_items += len(effect.page.changes)
        if machine.pages % _SAY_EVERY == 0 and not self._is_poll:
            _log.info("reading everything", feed=self.feed_id, items=self._run_items)

    def _say_read(self) -> None:
        seconds = round(clock.monotonic() - self._run_began_at, 1)
        log = _log.debug if self._is_poll else _log.info
        log("everything was read", feed=self.feed_id, items=self._run_items, seconds=seconds)

    def _say_trouble(self, trouble: str) -> None:
        if self._trouble is None:
            _log.warning("feed is held up", feed=self.feed_id, trouble=trouble)
        self._trouble = trouble
