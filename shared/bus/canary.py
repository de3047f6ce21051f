"""Runs the judgement of `canary_judge`: sends canaries by the hub's own publisher, hears them by its own reader.

Both ends are the ones that events take, so whatever stops events stops canaries. The owner is told of every change of
state: in doubt it reads the log often, and once more when all is well again.
"""

import asyncio
from collections.abc import Callable
from random import Random, SystemRandom
from typing import Final

import structlog

from shared.bus import resp
from shared.bus.canary_judge import Action, BusState, CanaryJudge, Probe, Reconnect, Send
from shared.bus.client import Endpoint
from shared.bus.message import CANARY, Message
from shared.bus.names import canary_channel
from shared.bus.publisher import Publisher
from shared.bus.reader import SlotReader
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_CANARIES_LATE, BUS_CANARY_SECONDS, BUS_STATE, LOOP_STALL_SECONDS

__all__ = ["BusState", "Canary"]

_STALL_WORTH_COUNTING_S: Final = 0.05

_log = structlog.get_logger(__name__)


class Canary:
    """Watches one reader and one publisher. `run()` until cancelled; `state` and `on_state` say what it finds."""

    def __init__(
        self,
        url: str,
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
        self._endpoint = Endpoint.from_url(url)
        self._channel = canary_channel(hub)
        self._publisher = publisher
        self._reader = reader
        self._on_state = on_state
        self._tick_s = interval_s / 4
        self._probe_deadline_s = probe_deadline_s
        self._random = random
        self._clock = clock
        self._judge = CanaryJudge(
            interval_s=interval_s, late_s=interval_s, tick_s=self._tick_s, reconnect_every_s=interval_s * 5
        )
        # Another hub of the same name, or an earlier run of this one, must not answer for us.
        self._run_id = random.randbytes(8)
        self._probe: asyncio.Task[None] | None = None
        self.state = BusState.DOUBT
        BUS_STATE.labels(self.state.value).set(1)
        reader.listen_for_canaries(self._channel, self._on_canary, self._on_connection)

    def __repr__(self) -> str:
        return f"Canary({self._judge!r})"

    async def run(self) -> None:
        """Send, judge and act until cancelled."""
        try:
            await asyncio.sleep(self._random.uniform(0, self._tick_s))
            while True:
                began = self._clock()
                late_before = self._judge.late
                for action in self._judge.on_tick(began):
                    self._act(action)
                BUS_CANARIES_LATE.inc(max(0, self._judge.late - late_before))
                self._tell()
                await asyncio.sleep(self._tick_s)
                if (stall := self._clock() - began - self._tick_s) > _STALL_WORTH_COUNTING_S:
                    LOOP_STALL_SECONDS.observe(stall)
        finally:
            if self._probe is not None:
                self._probe.cancel()

    def _act(self, action: Action) -> None:
        match action:
            case Send(number):
                self._publisher.offer_to(self._channel, Message(CANARY, "canary", 0, number, self._run_id))
            case Probe():
                self._probe = asyncio.create_task(self._ask_redis(), name="canary-probe")
            case Reconnect():
                self._reader.reconnect("canaries do not return")

    async def _ask_redis(self) -> None:
        answered = False
        try:
            # The greeting is the question: it needs the server's own loop to run.
            connection = await resp.connect(
                self._endpoint,
                deadline_s=self._probe_deadline_s,
                name="probe",
                on_reply=lambda reply: None,
                on_lost=lambda: None,
            )
            connection.abort()
            answered = True
        except (OSError, resp.RedisRefused):
            pass
        self._judge.on_probed(answered)
        self._tell()

    def _on_canary(self, number: int, run_id: bytes) -> None:
        if run_id != self._run_id:
            return
        round_trip = self._judge.on_returned(number, self._clock())
        if round_trip is not None:
            BUS_CANARY_SECONDS.observe(round_trip)
        self._tell()

    def _on_connection(self, is_up: bool) -> None:
        self._judge.on_connection(is_up)
        self._tell()

    def _tell(self) -> None:
        state = self._judge.state
        if state is self.state:
            return
        before, self.state = self.state, state
        BUS_STATE.labels(before.value).set(0)
        BUS_STATE.labels(state.value).set(1)
        _log.log(20 if state is BusState.OK else 30, "bus state changed", state=state.value, before=before.value)
        self._on_state(state)
