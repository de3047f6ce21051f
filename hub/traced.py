"""A connection whose traced events become spans. Only where tracing is on is it made: other hubs do not even ask.

An event that comes by the bus is in its file's own trace. One that is read from the log may have been sent before, by
this hub or another: it gets a trace of its own with a link. How many wait for their ack is bounded; beyond that the
oldest is given up, and its trace ends with `sent`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple

from hub.actions import Actions, SendEvents
from hub.apart import apart
from hub.connection import Connection
from hub.device_socket import DeviceSocket
from hub.session import LogPage
from hub.stage_lag import recorded_at
from shared.clock import wall
from shared.stages import Stage
from shared.store.cursors import Known, Swept
from shared.telemetry.traces import Tracer
from shared.traceparent import SAMPLED_END, Traceparent, of_event

__all__ = ["TracedConnection"]

WAITING_MAX: Final = 64


class _Sent(NamedTuple):
    of: Traceparent
    again: bool
    at: float


class TracedConnection(Connection):
    """As any other to its hub and its device. `trace` before `start`."""

    __slots__ = ("_after_flush", "_from_log", "_hub_name", "_tracer", "_unacked")

    def trace(self, tracer: Tracer, hub_name: str, after_flush: Callable[[Callable[[], None]], None]) -> None:
        """`after_flush(call)` calls once when what is due now has been written."""
        self._tracer = tracer
        self._hub_name = hub_name
        self._after_flush = after_flush
        self._from_log = False
        self._unacked: dict[int, _Sent | None] = {}

    def on_event(self, epoch: int, seq: int, body: bytes) -> None:
        """An event of this device."""
        before = self.session.sent
        super().on_event(epoch, seq, body)
        if body.endswith(SAMPLED_END) and before < seq <= self.session.sent and seq not in self._unacked:
            self._note(seq, body)

    @apart
    def on_page(self, page: LogPage) -> None:
        """The log answered."""
        self._from_log = True
        try:
            super().on_page(page)
        finally:
            self._from_log = False

    def on_ack(self, seq: int) -> None:
        """An ack frame."""
        super().on_ack(seq)
        if self._unacked:
            self._note_acked("socket")

    @apart
    def on_swept(self, swept: Swept, known: Known) -> None:
        """The sweep found a difference."""
        super().on_swept(swept, known)
        if self._unacked:
            self._note_acked("rest")

    def on_lost(self, socket: DeviceSocket) -> None:
        """The socket is gone."""
        self._unacked.clear()
        super().on_lost(socket)

    def perform(self, actions: Actions) -> None:
        """Do what the session decided, in its order."""
        super().perform(actions)
        for action in actions:
            if isinstance(action, SendEvents):
                for seq, body in action.events:
                    if body.endswith(SAMPLED_END):
                        self._note(seq, body)

    def _note(self, seq: int, body: bytes) -> None:
        of = of_event(body)
        if of is None or not of.is_sampled:
            return
        now, again = wall(), self._from_log
        self._unacked[seq] = None
        self._stage(of, Stage.FANNED_OUT, recorded_at(body) or now, now, again=again, seq=seq)
        self._after_flush(partial(self._on_sent, of, again, seq, now))
        if len(self._unacked) > WAITING_MAX:
            del self._unacked[next(iter(self._unacked))]

    def _on_sent(self, of: Traceparent, again: bool, seq: int, since: float) -> None:
        now = wall()
        self._stage(of, Stage.SENT, since, now, again=again, seq=seq)
        if seq in self._unacked:
            self._unacked[seq] = _Sent(of, again, now)

    def _note_acked(self, way: str) -> None:
        acked, now = self.session.acked, wall()
        for seq in [seq for seq, sent in self._unacked.items() if seq <= acked and sent is not None]:
            sent = self._unacked.pop(seq)
            if sent is not None:
                self._stage(sent.of, Stage.ACKED, sent.at, now, again=sent.again, seq=seq, way=way)

    def _stage(
        self, of: Traceparent, stage: Stage, began: float, ended: float, *, again: bool, seq: int, **more: Any
    ) -> None:
        self._tracer.stage(
            of,
            stage,
            began,
            ended,
            again=again,
            stage=stage.value,
            device_id=self.device_id,
            seq=seq,
            hub=self._hub_name,
            **more,
        )
