"""One connection's place in its device's log: what to send, what to wait for, what to read, when to give up.

A pure state machine. Bus messages, pages of the log, acks, sweeps and ticks go in; actions come out. Promises,
whatever the bus does: seq n+1 is sent only after n (or after the device itself acked n); a hole is filled from the
log or ends the connection, never skipped; the window is never exceeded; at most one read of the log is outstanding.

`head` is the highest seq known to exist: from the log, or heard on the bus, which tells only of committed events. The
session is live when `sent` has reached it; otherwise it reads, or waits for a read, or for acks. Everything heard
before a read began must be in what the read returns, since the bus speaks after the commit; where the log falls short
of that, its end was lost, and where this session has sent beyond it the connection ends, so that the device's next
position tells the hub.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from hub.actions import NOTHING, Action, Actions, End, Hold, ReadLog, RecordAck, Say, SendEvents
from hub.merge import Held, contiguous
from hub.window import Window, WindowLimits
from shared.protocol.close_codes import CloseCode
from shared.protocol.frames import ErrorFrame

__all__ = ["ACKS_ABOVE_HEAD_MAX", "Session"]

PAGE_MAX_BYTES: Final = 256 * 1024
ACKS_ABOVE_HEAD_MAX: Final = 3


class LogPage(Protocol):
    """What one snapshot of the log says about the device."""

    @property
    def epoch(self) -> int: ...
    @property
    def floor(self) -> int: ...
    @property
    def head(self) -> int: ...
    @property
    def acked(self) -> int: ...
    @property
    def events(self) -> Sequence[tuple[int, bytes]]: ...


class Session:
    """The state machine. `start` is the position after which pushing starts; `head` and `acked` are the greeting's."""

    __slots__ = (
        "_claim",
        "_claim_at_read",
        "_claims_refused",
        "_head_at_read",
        "_held",
        "_holding",
        "_reading",
        "_starved",
        "acked",
        "behind",
        "conn_term",
        "ended",
        "epoch",
        "head",
        "instance",
        "sent",
        "stuck_since",
        "window",
    )

    def __init__(
        self,
        *,
        epoch: int,
        start: int,
        head: int,
        acked: int,
        conn_term: int,
        instance: str,
        limits: WindowLimits,
        heard: int = 0,
    ) -> None:
        """`heard` is the highest seq of this epoch that the bus brought while the greeting was under way."""
        self.epoch = epoch
        self.sent = start
        self.acked = acked
        self.head = max(head, heard)
        self.conn_term = conn_term
        self.instance = instance
        self.window = Window(limits)
        self.behind = False
        self.ended: End | None = None
        self._held = Held()
        self._holding = False
        self._reading: ReadLog | None = None
        self._head_at_read = 0
        self._starved = False
        self._claim = 0
        self._claim_at_read = 0
        self._claims_refused = 0
        self.stuck_since: float | None = None

    def __repr__(self) -> str:
        return (
            f"Session({self._state()}, epoch {self.epoch}, acked {self.acked}, sent {self.sent}, head {self.head}, "
            f"{self.window})"
        )

    def _state(self) -> str:
        if self.ended:
            return "ended"
        if self._reading:
            return "reading"
        if self.behind:
            return "behind"
        if self._holding:
            return "holding"
        return "live" if self.is_live else "waiting"

    @property
    def is_live(self) -> bool:
        """Everything known to exist was sent."""
        return self.sent >= self.head

    def on_start(self) -> Actions:
        """The welcome was written: begin."""
        return self._pull()

    def passes(self, epoch: int, seq: int, size: int) -> bool:
        """Whether an event from the bus is simply the next one and nothing is in its way; then it counts as sent.

        Nearly every event is, and a plain answer costs half of what actions do. For all others, `on_bus`. Where it is
        above the head as well, nothing is held: what is held is above `sent` and not above the head.
        """
        if (
            seq != self.sent + 1
            or seq <= self.head
            or epoch != self.epoch
            or self._reading is not None
            or self.behind
            or self.ended is not None
            or not self.window.take(seq, size)
        ):
            return False
        self.sent = self.head = seq
        return True

    def on_bus(self, epoch: int, seq: int, body: bytes) -> Actions:
        """An event of the device, maybe late, early or again."""
        if self.passes(epoch, seq, len(body)):
            return (SendEvents(((seq, body),)),)
        if epoch != self.epoch:
            return self._end(CloseCode.HUB_TROUBLE, "log epoch raised") if epoch > self.epoch else NOTHING
        self.head = max(self.head, seq)
        if seq <= self.sent or self.behind or self.ended:
            return NOTHING
        if self._reading is None:
            if seq == self.sent + 1:
                return self._send(((seq, body),))
            if not self._held.put(seq, body) and self._holding:
                self._holding = False
                return self._read()
            return self._hold()
        self._held.put(seq, body)
        return NOTHING

    def on_hold_over(self) -> Actions:
        """The hold time has passed."""
        if not self._holding:
            return NOTHING
        self._holding = False
        return self._pull()

    def on_page(self, page: LogPage) -> Actions:
        """The answer to `ReadLog`."""
        read, self._reading = self._reading, None
        if read is None or self.ended:
            return NOTHING
        if page.epoch != self.epoch:
            return self._end(CloseCode.HUB_TROUBLE, "log epoch raised")
        if page.head < read.after:
            return self._end(CloseCode.HUB_TROUBLE, "the log has lost events that were sent")
        if self.head <= self._head_at_read or page.head > self.head:
            self.head = page.head
        # Heard before the read and not in it: of a log that is no more.
        self._held.forget(page.head, self._head_at_read)
        actions: list[Action] = []
        if page.acked > self.acked:
            self._advance(page.acked)
        actions += self._judge_claim(page.head)
        if actions and isinstance(actions[-1], End):
            return actions
        if page.floor > self.sent:
            return [*actions, *self._end(CloseCode.HUB_TROUBLE, "retention has passed this connection")]
        if read.max_rows > 0 and page.floor <= read.after < page.head and not _follows(page.events, read.after):
            return [*actions, *self._end(CloseCode.HUB_TROUBLE, "the log has a hole")]
        actions += self._send(page.events)
        if self.sent < page.head and not self.window.is_roomy:
            # What is left of the window is not worth a read: acks pull the next page.
            self._fall_behind()
        if self.behind or self._claim or self.sent < page.head:
            actions += self._pull()
        else:
            actions += self._hold()
        return actions

    def on_read_failed(self) -> Actions:
        """The read will not be answered (the device is no longer in the log, say)."""
        self._reading = None
        return self._end(CloseCode.HUB_TROUBLE, "the log could not be read")

    def ack_passes(self, seq: int) -> bool:
        """Whether an ack only moves the cursor, which is then to be recorded. For all others, `on_ack`."""
        if seq <= self.acked or seq > self.head or self.sent < self.head or self.behind:
            return False
        self._advance(seq)
        return True

    def on_ack(self, seq: int) -> Actions:
        """The device is done with everything up to `seq`. A repetition says only that it still works."""
        if self.ack_passes(seq):
            return (RecordAck(seq),)
        if seq <= self.acked:
            return self._ack_below_cursor(seq)
        if seq > self.head:
            # It may have heard of a newer event by REST. The log decides.
            self._claim = max(self._claim, seq)
            return self._pull()
        self._advance(seq)
        if self.behind or self._held:
            return [RecordAck(seq), *self._resume()]
        return (RecordAck(seq),)

    def _ack_below_cursor(self, seq: int) -> Actions:
        """The device began behind what it had acked, to see it again. The cursor stays; the window moves on."""
        used = self.window.used_events
        self.window.release(seq)
        if seq > self.sent:
            self.sent = seq
            self._held.forget(0, seq)
        elif self.window.used_events == used:
            return NOTHING
        return self._resume() if self.behind or self._held else NOTHING

    def on_swept(
        self, *, epoch: int, floor: int, head: int, acked: int, conn_term: int, instance: str | None, known_head: int
    ) -> Actions:
        """What the sweep found to differ from what was known when it began (`known_head`)."""
        if self.ended:
            return NOTHING
        if conn_term > self.conn_term:
            return self.on_replaced(conn_term, instance)
        if epoch != self.epoch:
            return self._end(CloseCode.HUB_TROUBLE, "log epoch raised")
        if head < known_head:
            if self.sent > head:
                return self._end(CloseCode.HUB_TROUBLE, "the log has lost events that were sent")
            if self.head == known_head:
                self.head = head
                self._held.forget(head, known_head)
        elif head > self.head:
            self.head = head
        if acked > self.acked:
            self._advance(acked)
        if floor > self.sent:
            return self._end(CloseCode.HUB_TROUBLE, "retention has passed this connection")
        return self._resume()

    def on_replaced(self, conn_term: int, instance: str | None) -> Actions:
        """The device has a connection with this term. A newer one wins."""
        if conn_term <= self.conn_term:
            return NOTHING
        if instance == self.instance:
            return self._end(CloseCode.SUPERSEDED, CloseCode.SUPERSEDED.reason)
        return self._end(CloseCode.REPLACED, CloseCode.REPLACED.reason)

    def on_tick(self, now: float, *, alive_at: float, bytes_wait: bool, patience_s: float) -> Actions:
        """End it when, for `patience_s`, something waits for the device and it gives no sign of life.

        `alive_at` is when a byte last came in or the send buffer last drained.
        """
        if self.ended or not (self.behind or bytes_wait):
            self.stuck_since = None
            return NOTHING
        if self.stuck_since is None:
            self.stuck_since = now
        if now - max(self.stuck_since, alive_at) < patience_s:
            return NOTHING
        return self._end(CloseCode.NO_PROGRESS, CloseCode.NO_PROGRESS.reason)

    def end(self, code: CloseCode, reason: str | None = None) -> Actions:
        """Somebody else decided that this connection ends."""
        return self._end(code, code.reason if reason is None else reason)

    def _advance(self, acked: int) -> None:
        self.acked = acked
        self.window.release(acked)
        if acked > self.head:  # noqa: PLR1730 - this is on the way of every ack, and a call costs as much as the rest
            self.head = acked
        if acked > self.sent:
            self.sent = acked
            self._held.forget(0, acked)

    def _judge_claim(self, head: int) -> Actions:
        claim, self._claim_at_read = self._claim_at_read, 0
        if not claim:
            return NOTHING
        if self._claim == claim:
            self._claim = 0
        if claim <= head:
            if claim <= self.acked:
                return NOTHING
            self._advance(claim)
            return (RecordAck(claim),)
        self._claims_refused += 1
        if self._claims_refused >= ACKS_ABOVE_HEAD_MAX:
            return self._end(CloseCode.PROTOCOL_ERROR, "acks above the head of the log")
        return (
            Say(
                ErrorFrame(
                    "ack_above_head", f"seq {claim} is above the head of the log, {head}; ack what you have received"
                )
            ),
        )

    def _send(self, history: Sequence[tuple[int, bytes]]) -> Actions:
        run: list[tuple[int, bytes]] = []
        window = self.window
        for seq, body in contiguous(history, self._held, self.sent):
            if not window.take(seq, len(body)):
                # Refused by a window that is half free: an event so large fits only an empty one, and to read it
                # earlier is vain.
                self._starved = window.is_roomy
                self._fall_behind()
                break
            self.sent = seq
            run.append((seq, body))
        return (SendEvents(run),) if run else NOTHING

    def _resume(self) -> Actions:
        """Something moved: an ack made room or passed a gap, or a sweep raised the head."""
        if self.ended or self._reading is not None:
            return NOTHING
        if self.behind:
            return self._pull()
        return [*self._send(()), *self._hold()]

    def _fall_behind(self) -> None:
        self.behind = True
        self._held.clear()

    def _hold(self) -> Actions:
        """Give the bus a moment to bring what is missing, if something is and is wanted."""
        if self._holding or self.behind or self.sent >= self.head:
            return NOTHING
        self._holding = True
        return (Hold(),)

    def _pull(self) -> Actions:
        """Read the log if there is something to learn and room for it."""
        if self._reading is not None or self.ended:
            return NOTHING
        if self._claim:
            return self._read()
        if self.sent >= self.head:
            self.behind = False
            return NOTHING
        if self.behind and (self.window.used_events > 0 if self._starved else not self.window.is_roomy):
            return NOTHING
        if self._holding:
            return NOTHING
        return self._read()

    def _read(self) -> Actions:
        window = self.window
        if not window.used_events or (window.room_events > 0 and window.room_bytes > 0):
            self.behind = self._starved = False
            rows = window.room_events
        else:
            self._fall_behind()
            if not self._claim:
                return NOTHING
            rows = 0
        self._head_at_read = self.head
        self._claim_at_read = self._claim
        self._reading = ReadLog(self.sent, rows, min(window.room_bytes, PAGE_MAX_BYTES))
        return (self._reading,)

    def _end(self, code: CloseCode, reason: str) -> Actions:
        if self.ended:
            return NOTHING
        self.ended = End(code, reason)
        self._held.clear()
        return (self.ended,)


def _follows(events: Sequence[tuple[int, bytes]], after: int) -> bool:
    return bool(events) and events[0][0] == after + 1
