"""Keeps this watcher's leases: heartbeat, claims, giving away, all by the rules of ownership.py.

Twice a second the membership is read and what is free and ours is claimed; every heartbeat all leases are renewed, in
one Postgres statement and, beside it, one Redis pipeline. Redis only keeps rivals from trying at the same time: that
it cannot be asked changes nothing. A claim asks Postgres what is free before it touches a lock, so the owner of a
lease whose lock was lost when Redis was flushed is not disturbed.
"""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

import structlog

from shared import clock
from shared.bus.lease_lock import Held
from shared.store import feeds, leases
from shared.store.errors import StoreError, StoreUnavailable
from shared.store.pool import Pool
from shared.telemetry.metrics import FEED_UNOWNED_SECONDS, WATCHER_TAKEOVER_SECONDS
from watcher.ownership import Ownership
from watcher.tasks import beside
from watcher.unowned import Unowned

_log = structlog.get_logger(__name__)

_PAGE_GRACE_S: Final = 4.0
_BEATS_A_SILENCE: Final = 6


class Replaced(Exception):
    """Another process runs under this watcher's name: give each its own with FLEETWIRE_WATCHER_NAME."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


class Locks(Protocol):
    """The Redis side. Nothing here raises or waits longer than a deadline."""

    async def hold(self, names: Sequence[str]) -> Mapping[str, Held]:
        """Take what is free, keep what is ours."""
        ...

    async def release(self, names: Sequence[str]) -> None:
        """Give up what is ours."""
        ...


class Holders(Protocol):
    """Who works under the leases."""

    def on_gained(self, feed_id: str, term: int) -> None: ...

    def on_renewed(self) -> None: ...

    async def end(self, feed_ids: Collection[str], change: str, *, grace_s: float = 0.0) -> None: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseTimes:
    """Seconds."""

    heartbeat_s: float = 10.0
    ttl_s: float = 30.0
    scan_s: float = 0.5
    silence_s: float = 15.0


class LeaseKeeper:
    """`run()` keeps the leases until cancelled, `close()` gives all back."""

    def __init__(
        self,
        pool: Pool,
        locks: Locks,
        ownership: Ownership,
        *,
        instance: str,
        times: LeaseTimes,
        rand: Random,
    ) -> None:
        self._pool = pool
        self._locks = locks
        self._ownership = ownership
        self._name = ownership.name
        self._unowned = Unowned(ownership.feeds)
        self._instance = instance
        self._times = times
        self._rand = rand
        self._holders: Holders | None = None
        # One change of leases at a time: a heartbeat that is under way must not take a lock again that is being given
        # up.
        self._changing = asyncio.Lock()
        self._giving: set[asyncio.Task[None]] = set()
        self.answered_at = float("-inf")
        """When Postgres last answered a scan, on the monotonic clock."""

    def __repr__(self) -> str:
        return f"LeaseKeeper({self._ownership!r})"

    async def join(self, holders: Holders) -> None:
        """Become a member, and end what an earlier run of this name left. Raises StoreError."""
        self._holders = holders
        names = sorted(self._ownership.feeds)
        await leases.ensure(self._pool, names)
        await feeds.join_watchers(self._pool, self._name, self._instance)
        left = await feeds.disown(self._pool, names, self._name)
        if left:
            _log.info("leases of an earlier run ended", leases=len(left))

    async def run(self) -> None:
        """Scan and beat. Raises Replaced."""
        async with beside({"lease scans": self._scan_forever(), "lease heartbeats": self._beat_forever()}):
            pass

    async def close(self) -> None:
        """Give back all leases after their pages, and say goodbye, so that the others need not wait."""
        await self.given_away()
        await self._give_up(self._ownership.terms(), "released", grace_s=_PAGE_GRACE_S)
        try:
            async with asyncio.timeout(self._deadline_s):
                await feeds.leave_watchers(self._pool, self._name, self._instance)
        except (StoreError, TimeoutError) as error:
            _log.warning("goodbye not said, the others will wait", error=str(error))

    async def given_away(self) -> None:
        """Until what is being given away has been, for as long as a page may take."""
        if self._giving:
            await asyncio.wait(self._giving, timeout=_PAGE_GRACE_S)

    async def scan(self) -> None:
        """Read the membership, give away, claim. Raises StoreError, Replaced."""
        async with _deadline(self._deadline_s):
            beat_s = self._times.silence_s / _BEATS_A_SILENCE
            members = await feeds.watchers(
                self._pool, self._name, self._instance, beat_s=beat_s, silence_s=self._times.silence_s
            )
            held = await leases.holders(self._pool, sorted(self._ownership.feeds))
        self.answered_at = clock.monotonic()
        ours = next((member for member in members if member.name == self._name), None)
        if ours is None:
            await feeds.join_watchers(self._pool, self._name, self._instance)
        elif ours.instance != self._instance:
            raise Replaced
        live = [member.name for member in members if member.live]
        holders = {one.name: one.owner for one in held if one.owner is not None and one.remaining_s > 0}
        for store, seconds in self._unowned.look(holders.keys(), self.answered_at).items():
            FEED_UNOWNED_SECONDS.labels(store).set(seconds)
        self._ownership.on_members(live, [member.name for member in members], holders)
        if give_away := self._ownership.to_give_away():
            terms = {feed: self._ownership.held[feed].term for feed in give_away}
            task = asyncio.create_task(self._give_up(terms, "given_away", grace_s=_PAGE_GRACE_S), name="giving away")
            self._giving.add(task)
            task.add_done_callback(self._giving.discard)
        if wanted := self._ownership.to_claim():
            async with self._changing, _deadline(self._deadline_s):
                await self._claim(wanted)

    async def beat(self) -> bool:
        """Renew everything. False when Postgres could not be asked, and the trust runs on."""
        async with self._changing:
            asked = self._ownership.terms()
            if not asked:
                return True
            started = clock.monotonic()
            renewing = asyncio.create_task(self._renew(asked))
            # A lock whose lease cannot be renewed is left to expire, or it would keep out those who reach Postgres.
            answers = await self._locks.hold([feed for feed in asked if self._ownership.believed(feed, started)])
            renewed = await renewing
        lost = [] if renewed is None else self._ownership.on_renewed(asked, renewed, started)
        taken = {
            feed: term
            for feed, term in asked.items()
            if answers.get(feed) is Held.ANOTHERS and self._ownership.on_taken(feed, term)
        }
        await self._end([*lost, *taken], "lost")
        if taken:
            _log.warning("locks are another's, feeds stopped", feeds=len(taken))
            await self._release(taken, locks=False)
        if renewed:
            assert self._holders is not None, "join() comes first"
            self._holders.on_renewed()
        return renewed is not None

    async def give_up(self, feed_id: str, term: int) -> None:
        """The work under this lease ended by itself: somebody else shall begin it anew, or we."""
        await self._give_up({feed_id: term}, "failed", grace_s=0.0)

    # Below, the parts.

    @property
    def _deadline_s(self) -> float:
        return min(3.0, self._times.heartbeat_s / 2)

    async def _scan_forever(self) -> None:
        troubled = False
        while True:
            try:
                await self.scan()
                troubled = False
            except StoreError as error:
                if not troubled:
                    _log.warning("leases cannot be looked after", error=str(error))
                troubled = True
            await asyncio.sleep(self._times.scan_s * self._rand.uniform(0.8, 1.2))

    async def _beat_forever(self) -> None:
        while True:
            fine = await self.beat()
            # After a failure soon again: the trust is two beats long.
            await asyncio.sleep(self._times.heartbeat_s * (self._rand.uniform(0.9, 1.1) if fine else 0.1))

    async def _renew(self, asked: dict[str, int]) -> set[str] | None:
        try:
            async with _deadline(self._deadline_s):
                return await leases.renew(self._pool, self._name, asked, ttl_s=self._times.ttl_s)
        except StoreError as error:
            _log.warning("leases not renewed, trying again", error=str(error))
            return None

    async def _claim(self, wanted: Collection[str]) -> None:
        free = await feeds.free(self._pool, list(wanted))
        if not free:
            return
        answers = await self._locks.hold(list(free))
        allowed = [name for name in free if answers.get(name) is not Held.ANOTHERS]
        terms: dict[str, int] = {}
        try:
            if allowed:
                started = clock.monotonic()
                terms = await leases.claim(self._pool, allowed, self._name, ttl_s=self._times.ttl_s, limit=len(allowed))
                self._ownership.on_claimed(terms, started)
        finally:
            if not_won := [name for name in allowed if name not in terms and answers.get(name) is Held.MINE]:
                await self._locks.release(not_won)
        assert self._holders is not None, "join() comes first"
        for feed_id, term in sorted(terms.items()):
            self._holders.on_gained(feed_id, term)
            if (silent_s := free[feed_id]) is not None:
                # The last renewal that succeeded was a whole lease before its end.
                WATCHER_TAKEOVER_SECONDS.observe(silent_s + self._times.ttl_s)
        if terms:
            _log.info("leases claimed", leases=len(terms), held=len(self._ownership.held))

    async def _give_up(self, terms: dict[str, int], change: str, *, grace_s: float) -> None:
        # What was lost meanwhile, and perhaps claimed again, is none of this call's business.
        terms = {feed: term for feed, term in terms.items() if self._ownership.holds(feed, term)}
        if not terms:
            return
        await self._end(list(terms), change, grace_s=grace_s)
        async with self._changing:
            await self._release(terms)
            for feed, term in terms.items():
                self._ownership.drop(feed, term)

    async def _release(self, terms: dict[str, int], *, locks: bool = True) -> None:
        try:
            async with _deadline(self._deadline_s):
                await leases.release(self._pool, self._name, terms)
        except StoreError as error:
            _log.warning("leases not given back, they end by themselves", leases=len(terms), error=str(error))
        # After Postgres, so that who finds a lock free finds the lease free.
        if locks:
            await self._locks.release(list(terms))

    async def _end(self, feed_ids: Collection[str], change: str, *, grace_s: float = 0.0) -> None:
        if feed_ids:
            assert self._holders is not None, "join() comes first"
            await self._holders.end(feed_ids, change, grace_s=grace_s)


class _deadline:  # noqa: N801 - reads as a word in a with statement
    """A deadline whose passing is StoreUnavailable."""

    def __init__(self, seconds: float) -> None:
        self._timeout = asyncio.timeout(seconds)
        self._seconds = seconds

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exception: object) -> None:
        try:
            await self._timeout.__aexit__(*exception)  # type: ignore[arg-type]
        except TimeoutError:
            raise StoreUnavailable(f"Postgres did not answer within {self._seconds:g} s") from None
