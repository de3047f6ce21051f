"""Sends devices that belong elsewhere there: in waves at a set rate, each told `moved` with its own random delay.

What is to be done is decided by `rebalance`, after every look at the hubs; here is the queue, its pace and what an
operator may do with it. A connection that was told goes on delivering until the device's new one supersedes it, so
nothing is lost or repeated; one that stays too long is ended with 4000. The cursor is marked before the device is
told: a hub that sees things differently for a moment does not send it back. Those whose hub is full or refuses devices
wait here, and are sent when nothing else moves and it has room for them.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final, Literal, NamedTuple

import structlog

from hub.leavers import Leavers, Leaving
from hub.neighbours import Neighbours
from hub.rebalance import Neighbour, Rebalance, Verdict, View, away
from hub.strangers import Strangers
from shared.backoff import Backoff
from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode
from shared.store.errors import StoreError
from shared.telemetry.metrics import HUB_MOVES, HUB_MOVES_LEFT

__all__ = ["Mover", "MoverTimes", "Reason"]

_log = structlog.get_logger(__name__)

Reason = Literal["rebalance", "rehome", "operator"]
REHOMES_MAX: Final = 1000
LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class MoverTimes:
    """Moves per second; seconds of a wave, and how long after its moment a connection that was told may stay."""

    rate: float
    wave_s: float = 1.0
    linger_s: float = 8.0


class _Job(NamedTuple):
    device_id: str
    reason: Reason


class Mover:
    """`on_view()` after every look at the hubs, `run()` is the loop; the rest is for operators."""

    def __init__(
        self,
        neighbours: Neighbours,
        *,
        connections: Callable[[], Iterable[Leaving]],
        get: Callable[[str], Leaving | None],
        strangers: Strangers,
        mark: Callable[[Sequence[str]], Awaitable[None]],
        times: MoverTimes,
        automatic: bool,
        rand: Random,
        backoff: Callable[[], Backoff],
    ) -> None:
        """`mark(device_ids)` records that they are sent on; raises StoreError. Not `automatic`: only operators move."""
        self._neighbours = neighbours
        self._connections = connections
        self._get = get
        self._strangers = strangers
        self._mark = mark
        self._times = times
        self._automatic = automatic
        self._rand = rand
        self._backoff = backoff
        # One for each plan: who comes back from Postgres with some of an older one finds another here.
        self._queue: deque[_Job] = deque()
        self._queued_for = neighbours.view
        self._waiting: dict[str, Leaving] = {}
        self._leavers = Leavers(CloseCode.MOVED, lambda reason, outcome: HUB_MOVES.labels(reason, outcome).inc())
        self._wake = asyncio.Event()
        self._closed = False
        self.rebalance = Rebalance(neighbours.view)
        self.is_paused = False
        self.done = 0
        self.skipped: Counter[str] = Counter()
        HUB_MOVES_LEFT.set_function(lambda: len(self._queue))

    def __repr__(self) -> str:
        paused = ", paused" if self.is_paused else ""
        return f"Mover({len(self._queue)} left, {self.done} done, {len(self._leavers)} leaving{paused})"

    # After every look at the hubs

    def on_view(self) -> None:
        """Decide what the newest view asks for."""
        if self._closed:
            return
        view = self._neighbours.view
        if self._waiting:
            self._waiting = {name: one for name, one in self._waiting.items() if self._get(name) is one}
        was_held = self.rebalance.is_held
        if self._queue and self.rebalance.goal is None:
            if self._queue[0].reason == "operator":
                return  # first things first
            if view != self._queued_for:
                self._queue = deque()  # devices on their way home, which may be elsewhere now
        match self.rebalance.judge(self._neighbours.settling):
            case Verdict.DROP:
                _log.info("the hubs have changed again, moving stops", left=len(self._queue), hubs=view.names)
                self._queue = deque()
            case Verdict.PLAN:
                self._strangers.judge_all(view)
                if not self._automatic:
                    self.rebalance.finished()
                    return
                found = away(self._here(), self._neighbours.me, self.rebalance.base, view)
                _log.info("the hubs have changed", hubs=view.names, devices_to_move=len(found))
                self._begin(found, "rebalance")
            case Verdict.REST:
                if self._automatic and not self._queue:
                    self._rehome(view)
            case Verdict.WAIT:
                if self.rebalance.is_held and not was_held:
                    _log.warning("more than half of the hubs have gone at once: nobody is moved", hubs=view.names)

    def _begin(self, device_ids: list[str], reason: Reason) -> None:
        self._rand.shuffle(device_ids)
        self._queue = deque(_Job(device_id, reason) for device_id in device_ids)
        self._queued_for = self._neighbours.view
        self.done = 0
        self.skipped.clear()
        if not self._queue:
            self.rebalance.finished()
        self._wake.set()

    def _rehome(self, view: View) -> None:
        """Those that wait for room first, then who came to a hub not its own: no more than their hubs have room for."""
        waiting = self._as_many_as_fit(view, [(name, one.slot) for name, one in self._waiting.items()])
        if waiting:
            self._begin(waiting, "rebalance")
            return
        chosen = self._as_many_as_fit(view, self._strangers.rehomable(monotonic()))
        for device_id in chosen:
            self._strangers.tried(device_id)
        if chosen:
            self._begin(chosen, "rehome")

    def _as_many_as_fit(self, view: View, devices: Iterable[tuple[str, int]]) -> list[str]:
        room: Counter[str] = Counter()
        for one in self._neighbours.hubs:
            room[one.name] = one.room if one.accepts else 0
        chosen = []
        for device_id, slot in devices:
            name = view.owner(slot)
            if name is not None and name != self._neighbours.me and room[name] > 0:
                room[name] -= 1
                chosen.append(device_id)
            if len(chosen) == REHOMES_MAX:
                break
        return chosen

    # The loop

    async def run(self) -> None:
        """Tell wave after wave until cancelled."""
        backoff = self._backoff()
        allowed = next_wave = 0.0
        wave_s = self._times.wave_s
        while True:
            now = monotonic()
            if self._queue and not self.is_paused and now >= next_wave:
                next_wave = now + wave_s
                allowed = min(allowed + self._times.rate * wave_s, max(1.0, self._times.rate * wave_s))
                try:
                    allowed -= await self._wave(int(allowed))
                    backoff.reset()
                except StoreError:
                    next_wave += backoff.next()
            self._leavers.look(monotonic())
            if self._queue or self._leavers:
                await asyncio.sleep(min(LOOK_S, wave_s))
            else:
                await self._wake.wait()
            self._wake.clear()

    async def _wave(self, most: int) -> int:
        """Tell up to so many. Returns how many. Raises StoreError, with nobody told."""
        plan = self._queue
        chosen: list[tuple[_Job, Leaving, Neighbour]] = []
        while self._queue and len(chosen) < most:
            job = self._queue.popleft()
            found = self._get(job.device_id)
            if found is None or found.is_over:
                continue  # gone by itself
            target = self._target(job, found)
            if target is not None:
                chosen.append((job, found, target))
        if chosen:
            try:
                await self._mark([job.device_id for job, _, _ in chosen])
            except BaseException:
                plan.extendleft(job for job, _, _ in reversed(chosen))
                raise
        if self._queue is not plan:
            return 0  # given up while they were marked
        told = 0
        for job, connection, target in chosen:
            if self._get(job.device_id) is not connection or connection.is_over or self._closed:
                continue
            hub = self._neighbours.get(target.name)
            if hub is None or hub.leaving:
                continue  # it went while they were marked; what is to be done about that, the new view says
            self._tell(job, connection, target)
            told += 1
        if not self._queue:
            self._finish()
        return told

    def _target(self, job: _Job, connection: Leaving) -> Neighbour | None:
        """Whose it is, by the newest view."""
        name = self._neighbours.view.owner(connection.slot)
        if name is None or name == self._neighbours.me:
            self._waiting.pop(job.device_id, None)
            return None
        target = self._neighbours.get(name)
        if target is None or not target.accepts:
            why = "gone" if target is None else "full" if target.room <= 0 else "draining"
            self.skipped[why] += 1
            HUB_MOVES.labels(job.reason, "skipped").inc()
            if job.reason != "operator":
                self._waiting[job.device_id] = connection
            return None
        self._neighbours.sent_to(name)
        return target

    def _tell(self, job: _Job, connection: Leaving, target: Neighbour) -> None:
        after_s = self._rand.uniform(0.0, self._times.wave_s)
        self._waiting.pop(job.device_id, None)
        self._strangers.tried(job.device_id)  # until it has gone it is one still, and was told already
        connection.tell_moved(self._neighbours.url(target.name), int(after_s * 1000), job.reason)
        self._leavers.add(connection, monotonic() + after_s + self._times.linger_s, job.reason)
        self.done += 1

    def _finish(self) -> None:
        if self.done or self.skipped:
            _log.info("devices were sent on", done=self.done, skipped=dict(self.skipped))
        self.rebalance.finished()

    def close(self) -> None:
        """This hub leaves: what is planned is off."""
        self._closed = True
        self._queue = deque()
        self._waiting.clear()

    # For operators

    @property
    def eta_s(self) -> float | None:
        """Seconds until the last one is told; None while paused."""
        if self.is_paused and self._queue:
            return None
        return len(self._queue) / self._times.rate

    def progress(self) -> dict[str, Any]:
        """As JSON."""
        eta_s = self.eta_s
        return {
            "left": len(self._queue),
            "done": self.done,
            "leaving": len(self._leavers),
            "skipped": dict(self.skipped),
            "rate": self._times.rate,
            "eta_s": None if eta_s is None else round(eta_s, 1),
            "paused": self.is_paused,
            "held": self.rebalance.is_held,
        }

    def plan(self, *, without: Iterable[str] = (), plus: Iterable[str] = ()) -> dict[str, Any]:
        """What a move now would do: how many devices where, how many stay, and what stands against it."""
        view = self._neighbours.view.changed(without=without, plus=plus)
        counts: Counter[str] = Counter()
        for connection in self._connections():
            if not connection.is_over:
                counts[view.owner(connection.slot) or ""] += 1
        stay = counts.pop(self._neighbours.me, 0)
        known = {name: self._neighbours.get(name) for name in counts}
        refused = {
            name: "full" if one.room <= 0 else "draining"
            for name, one in known.items()
            if one is not None and not one.accepts
        }
        rebalance = len(away(self._here(), self._neighbours.me, self.rebalance.base, view))
        return {"hubs": view.names, "stay": stay, "move": dict(counts), "refused": refused, "rebalance": rebalance}

    def _here(self) -> list[tuple[str, int]]:
        return [(one.device_id, one.slot) for one in self._connections() if not one.is_over]

    def move(self, to: str | None) -> int:
        """Send every device that belongs elsewhere there, or those of one hub, whatever the view. Returns how many."""
        view, me = self._neighbours.view, self._neighbours.me
        found = [
            connection.device_id
            for connection in self._connections()
            if not connection.is_over
            and (owner := view.owner(connection.slot)) is not None
            and owner != me
            and to in (None, owner)
        ]
        self.is_paused = False
        self.rebalance.is_held = False
        self.rebalance.goal = view if to is None else None
        self._begin(found, "operator")
        _log.info("an operator moves devices", devices=len(found), to=to)
        return len(found)

    def pause(self) -> None:
        """Tell nobody more until `resume()`. Those told go on."""
        self.is_paused = True

    def resume(self) -> None:
        """Go on."""
        self.is_paused = False
        self._wake.set()

    def abort(self) -> int:
        """Forget what is left, and do not begin it again for this view. Returns how many stay."""
        left = len(self._queue)
        self._queue = deque()
        self.rebalance.finished()
        self._waiting.clear()
        self._strangers.let_stay()  # else they would be on their way again as soon as nothing else moves
        self.is_paused = False
        _log.info("an operator stopped the moves", left=left)
        return left
