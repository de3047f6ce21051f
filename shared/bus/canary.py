"""Runs the judgement of `canary_judge` for every node of the bus: sends canaries by the hub's own publisher, hears
them by its own reader.

Both ends are the ones that events take, so whatever stops events stops canaries. There is one judge per connection,
because one node of three may be deaf; only the slots that it serves are in doubt then, but the hub as a whole is what
its worst node is. The owner is told of every change: in doubt it reads the log often, and once more when all is well.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from random import Random, SystemRandom
from typing import Final

import structlog

from shared.bus import probe
from shared.bus.canary_judge import Action, BusState, CanaryJudge, Probe, Reconnect, Send, worst
from shared.bus.message import CANARY, Message
from shared.bus.names import canary_channel
from shared.bus.publisher import Publisher
from shared.bus.reader import Shard, SlotReader
from shared.bus.slot_map import Address
from shared.clock import monotonic
from shared.telemetry.metrics import (
    BUS_CANARIES_LATE,
    BUS_CANARY_SECONDS,
    BUS_RECOVERIES,
    BUS_STALL_SECONDS,
    BUS_STATE,
    BUS_TROUBLE_SECONDS,
)

__all__ = ["BusState", "Canary"]

_STALL_WORTH_COUNTING_S: Final = 0.05

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Watched:
    shard: Shard
    judge: CanaryJudge
    probe: asyncio.Task[None] | None = None


class Canary:
    """Watches one reader and one publisher. `run()` until cancelled; `state`, `doubtful` and `on_state` say what it
    finds."""

    def __init__(
        self,
        *,
        hub: str,
        publisher: Publisher,
        reader: SlotReader,
        on_state: Callable[[BusState], None],
        interval_s: float = 0.4,
        probe_deadline_s: float = 0.3,
        rand: Random | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Make it before `reader.run()` is started."""
        random = rand or SystemRandom()
        self._publisher = publisher
        self._reader = reader
        self._on_state = on_state
        self._interval_s = interval_s
        self._tick_s = interval_s / 4
        self._probe_deadline_s = probe_deadline_s
        self._random = random
        self._clock = clock
        # Another hub of the same name, or an earlier run of this one, must not answer for us.
        self._run_id = random.randbytes(8)
        seed = reader.first_seed
        self._watched = {Address(seed.host, seed.port): _Watched(Shard(seed, canary_channel(hub)), self._judge())}
        self.state = BusState.DOUBT
        self._since = clock()
        self._worst = BusState.DOUBT
        BUS_STATE.labels(self.state.value).set(1)
        reader.listen_for_canaries(partial(canary_channel, hub), self)

    def __repr__(self) -> str:
        return f"Canary({', '.join(f'{address.port}: {one.judge!r}' for address, one in self._watched.items())})"

    def states(self) -> Mapping[Address, BusState]:
        """What is believed of each node."""
        return {address: one.judge.state for address, one in self._watched.items()}

    def in_doubt(self, slot: int) -> bool:
        """Whether messages of this slot may be missed now."""
        address = self._reader.shard_of(slot)
        watched = self._watched.get(address) if address is not None else None
        return watched is None or watched.judge.state is not BusState.OK or not self._reader.is_confirmed(slot)

    def doubtful(self) -> Callable[[int], bool] | None:
        """`in_doubt`, or None when that is true of no slot."""
        return None if self.state is BusState.OK and self._reader.all_confirmed else self.in_doubt

    async def run(self) -> None:
        """Send, judge and act until cancelled."""
        try:
            await asyncio.sleep(self._random.uniform(0, self._tick_s))
            while True:
                began = self._clock()
                for address, one in list(self._watched.items()):
                    self._tick(address, one, began)
                self._tell()
                await asyncio.sleep(self._tick_s)
                if (stall := self._clock() - began - self._tick_s) > _STALL_WORTH_COUNTING_S:
                    BUS_STALL_SECONDS.observe(stall)
        finally:
            for one in self._watched.values():
                if one.probe is not None:
                    one.probe.cancel()

    def on_shards(self, shards: Mapping[Address, Shard]) -> None:
        """The reader reads from these nodes now. Of a new one nothing is believed yet."""
        before = self._watched
        self._watched = {
            address: before[address]
            if address in before and before[address].shard == shard
            else _Watched(shard, self._judge())
            for address, shard in shards.items()
        }
        for address, one in before.items():
            if one is not self._watched.get(address) and one.probe is not None:
                one.probe.cancel()
        for address in self._watched.keys() & before.keys():
            # Another channel at the same node: the connection is there already.
            if self._watched[address] is not before[address] and before[address].judge.is_connected:
                self._watched[address].judge.on_connection(True)
        self._tell()

    def on_canary(self, address: Address, number: int, run_id: bytes) -> None:
        """One came back."""
        watched = self._watched.get(address)
        if run_id != self._run_id or watched is None:
            return
        round_trip = watched.judge.on_returned(number, self._clock())
        if round_trip is not None:
            BUS_CANARY_SECONDS.observe(round_trip)
        self._tell()

    def on_connection(self, address: Address, is_up: bool) -> None:
        """The reader's connection to a node came or went."""
        watched = self._watched.get(address)
        if watched is not None:
            watched.judge.on_connection(is_up)
            self._tell()

    def _judge(self) -> CanaryJudge:
        return CanaryJudge(
            interval_s=self._interval_s,
            late_s=self._interval_s,
            tick_s=self._tick_s,
            reconnect_every_s=self._interval_s * 5,
        )

    def _tick(self, address: Address, one: _Watched, now: float) -> None:
        late_before = one.judge.late
        for action in one.judge.on_tick(now):
            self._act(action, address, one)
        if one.judge.late > late_before:
            BUS_CANARIES_LATE.inc(one.judge.late - late_before)
            self._reader.suspect(address)

    def _act(self, action: Action, address: Address, one: _Watched) -> None:
        match action:
            case Send(number):
                self._publisher.offer_to(one.shard.channel, Message(CANARY, "canary", 0, number, self._run_id))
            case Probe():
                one.probe = asyncio.create_task(self._ask(one), name="canary-probe")
            case Reconnect():
                self._reader.reconnect(address, "canaries do not return")

    async def _ask(self, one: _Watched) -> None:
        shard = one.shard
        one.judge.on_probed(await probe.serves(shard.endpoint, shard.channel, deadline_s=self._probe_deadline_s))
        self._tell()

    def _tell(self) -> None:
        state = worst(one.judge.state for one in self._watched.values())
        if state is self.state:
            return
        now = self._clock()
        before, self.state = self.state, state
        BUS_STATE.labels(before.value).set(0)
        BUS_STATE.labels(state.value).set(1)
        if before is not BusState.OK:
            BUS_TROUBLE_SECONDS.labels(before.value).observe(now - self._since)
        if state is BusState.OK:
            BUS_RECOVERIES.labels(self._worst.value).inc()
        self._worst = worst((state, self._worst)) if before is not BusState.OK else state
        self._since = now
        level = 20 if state is BusState.OK else 30
        _log.log(level, "bus state changed", state=state.value, before=before.value, nodes=repr(self))
        self._on_state(state)
