"""One welcomed device: its session decides, its socket is written to, and what both need of the hub is asked here.

Nothing here awaits and nothing here decides about the log; every entry is a plain call from the bus, the socket, a
gathered answer or the wheel.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from hub.actions import Actions, End, Hold, ReadLog, RecordAck, Say, SendEvents
from hub.apart import apart
from hub.compression import NEVER, Deflater
from hub.counts import Counts
from hub.device_socket import NEVER_LOOK, DeviceSocket
from hub.greeting import Credential, UnknownKey
from hub.keepalive import Pulse, Signs, Verdict
from hub.link_watch import LinkWatch
from hub.notices import NOTICE_ROOM_BYTES, NoticeFrames
from hub.rates import InboundLimits, InboundRate, RateVerdict
from hub.session import LogPage, Session
from hub.stage_lag import NEVER_SAMPLED
from hub.validity import Validity
from hub.wheel import Appointment
from hub.wire import event_bytes, text_bytes
from shared.clock import iso, monotonic, wall
from shared.hash_slots import slot_of
from shared.protocol.close_codes import CloseCode
from shared.protocol.frames import (
    Ack,
    ErrorFrame,
    FrameError,
    HubFrame,
    Moved,
    ProtocolViolation,
    Sync,
    SyncResult,
    Token,
    TokenOk,
    decode_device_frame,
    encode_frame,
)
from shared.store.cursors import Ack as CursorAck
from shared.store.cursors import AckResult, Known, Swept
from shared.telemetry.metrics import HUB_FRAMES_REFUSED, HUB_RTT_SECONDS, HUB_WINDOW_STALL_SECONDS

__all__ = ["Connection", "ConnectionTimes", "Services"]

_log = structlog.get_logger(__name__)

# Without the ack of an event for other reasons than lateness: the device went on elsewhere and acks there, or its link
# was lost, and with it the device was not connected.
_NOT_LATE: Final = (None, 1006, int(CloseCode.SUPERSEDED), int(CloseCode.REPLACED))


class Services(Protocol):
    """What a connection asks of its hub."""

    @property
    def note_ack(self) -> Callable[[str, int, int], None]: ...
    @property
    def counts(self) -> Counts: ...
    @property
    def deflater(self) -> Deflater: ...
    def read_log(self, connection: "Connection", read: ReadLog) -> None: ...
    def check_renewal(self, connection: "Connection", credential: Credential) -> None: ...
    def look_for_key(self, connection: "Connection", token: str) -> bool: ...
    def apply_operations(self, connection: "Connection", frame: Sync) -> ErrorFrame | None: ...
    def hold(self, connection: "Connection") -> None: ...
    def visit_at(self, connection: "Connection", due: float) -> None: ...
    def forget(self, connection: "Connection") -> None: ...


@dataclass(frozen=True, slots=True)
class ConnectionTimes:
    """Seconds: how long a device may make no progress, and how often a waiting one is looked at; what it may send."""

    patience_s: float
    look_s: float
    inbound: InboundLimits


class Connection:
    """Made by the endpoint once the greeting is answered; ends with its socket."""

    __slots__ = (
        "_counts",
        "_deflate_from",
        "_heard_before",
        "_holds_up",
        "_hub",
        "_inbound",
        "_link",
        "_next_visit",
        "_note_ack",
        "_pulse",
        "_sampled_at",
        "_sampled_recorded",
        "_sampled_seq",
        "_stalled_at",
        "_times",
        "_validity",
        "appointment",
        "device_class",
        "device_id",
        "is_done",
        "may_rehome",
        "session",
        "slot",
        "socket",
        "was_sent_on",
    )

    def __init__(
        self,
        *,
        socket: DeviceSocket,
        device_id: str,
        session: Session,
        validity: Validity,
        device_class: str,
        pulse: Pulse,
        link: LinkWatch,
        times: ConnectionTimes,
        hub: Services,
        may_rehome: bool = False,
    ) -> None:
        """`may_rehome`: it may be sent to the hub that owns its slot, if that is another."""
        self.device_id = device_id
        self.device_class = device_class
        self.slot = slot_of(device_id)
        self.may_rehome = may_rehome
        self.session = session
        self.socket = socket
        self.appointment = Appointment(self)
        self.is_done = False
        self.was_sent_on = False
        self._inbound: InboundRate | None = None
        self._heard_before = socket.heard
        self._validity = validity
        self._pulse = pulse
        self._link = link
        self._times = times
        self._hub = hub
        self._note_ack = hub.note_ack
        self._counts = hub.counts
        self._deflate_from = hub.deflater.threshold if socket.deflates else NEVER
        self._next_visit = 0.0
        # Events are late by the device's own doing: it was away, or its window is full.
        self._holds_up = not session.is_live
        self._stalled_at = 0.0
        self._sampled_seq = NEVER_SAMPLED
        self._sampled_at = 0.0
        self._sampled_recorded: float | None = None

    def __repr__(self) -> str:
        return f"Connection({self.device_id}, term {self.conn_term}, {self.session!r}, {self.socket!r})"

    @property
    def conn_term(self) -> int:
        """The newest connection of a device has the highest."""
        return self.session.conn_term

    @property
    def is_over(self) -> bool:
        """It has gone, or is about to."""
        return self.is_done or self.session.ended is not None

    @property
    def known(self) -> Known:
        """What the sweep compares."""
        session, validity = self.session, self._validity
        return Known(
            self.device_id,
            session.epoch,
            session.head,
            session.acked,
            session.conn_term,
            validity.issued_at,
            validity.token_id,
        )

    def start(self) -> None:
        """The welcome is written."""
        now = monotonic()
        self._validity.reckon(now, wall())
        self._plan_visit(now)
        self.perform(self.session.on_start())

    # From the bus

    def on_event(self, epoch: int, seq: int, body: bytes) -> None:
        """An event of this device."""
        # Never raises, as `apart` has it, but written out: this is the way of every event.
        try:
            size = len(body)
            if self.session.passes(epoch, seq, size):
                counts = self._counts
                sent = counts.sent = counts.sent + 1
                if size < self._deflate_from:
                    self.socket.write(event_bytes(seq, body))
                else:
                    self._send_event(seq, body)
                if sent >= counts.sample_at:
                    self._sample(seq, body)
            elif actions := self.session.on_bus(epoch, seq, body):
                self.perform(actions)
            else:
                self._time_stall()
        except Exception:  # noqa: BLE001 - it may count as sent already: the device must come back for it
            _log.exception("a connection is broken and given up", device_id=self.device_id)
            self.on_fault()

    @apart
    def on_replaced(self, conn_term: int, instance: str | None) -> None:
        """The device has connected elsewhere, or here again."""
        self.perform(self.session.on_replaced(conn_term, instance))

    def on_notice(self, frames: NoticeFrames) -> bool:
        """Write a notice, unless there is more on its way than a little. Whether it was written."""
        session, socket = self.session, self.socket
        if session.behind or not socket.is_open:
            return False
        if socket.buffered + session.window.used_bytes > NOTICE_ROOM_BYTES:
            return False
        deflated = frames.compressed if self._deflate_from != NEVER else None
        socket.write(deflated or frames.plain)
        return True

    # Gathered answers

    @apart
    def on_page(self, page: LogPage) -> None:
        """The log answered."""
        session, counts = self.session, self._counts
        counts.from_log += len(page.events)
        self.perform(session.on_page(page))
        if session.behind:
            now = monotonic()
            self._link.catches_up(now, session.window.acked_bytes)
            if self._link.due(now) < self._next_visit:
                self._plan_visit(now)
        elif session.is_live:
            if page.events and not self._holds_up and counts.sent >= counts.sample_at:
                self._sample(*page.events[-1])
            self._holds_up = False

    @apart
    def on_read_failed(self) -> None:
        """The log knows no such device any more."""
        self.perform(self.session.on_read_failed())

    @apart
    def on_hold_over(self) -> None:
        """The bus had its time."""
        self.perform(self.session.on_hold_over())

    @apart
    def on_swept(self, swept: Swept, known: Known) -> None:
        """The sweep found a difference."""
        validity = self._validity
        if swept.revoked and (known.issued_at, known.token_id) == (validity.issued_at, validity.token_id):
            self.end(CloseCode.REVOKED)
            return
        self.perform(
            self.session.on_swept(
                epoch=swept.epoch,
                floor=swept.floor,
                head=swept.head,
                acked=swept.acked,
                conn_term=swept.conn_term,
                instance=swept.instance,
                known_head=known.head,
            )
        )
        if self._sampled_seq <= self.session.acked:
            self._sampled_seq = NEVER_SAMPLED  # acked by REST, which is timed nowhere

    def seen(self) -> dict[str, float | int | bool]:
        """What a page shows of it: the newest seq that was sent and acked, the round trip, and whether it lags."""
        session = self.session
        rtt_s = self.socket.rtt_s or self._link.rtt_s
        return {
            "sent": session.sent,
            "acked": session.acked,
            "rtt_ms": round(1000 * rtt_s, 1),
            "behind": session.behind,
            "moving": self.was_sent_on,
        }

    @apart
    def on_keys_fetched(self, token: str) -> None:
        """The keys may be newer than when the device sent this token, which named one that was not known."""
        if not self.is_over:
            self._renew(token, is_last=True)

    @apart
    def on_renewal_checked(self, credential: Credential, revoked: bool | None) -> None:
        """Whether the credential that a `token` frame brought was revoked; None when nobody could say."""
        why_not = self._validity.end_renewal(credential, revoked)
        if self.is_over:
            return
        if why_not is not None:
            self._refuse("token_refused", why_not)
            return
        now = monotonic()
        self._validity.reckon(now, wall())
        if self._validity.due < self._next_visit:
            self._plan_visit(now)
        self._say(TokenOk(iso(credential.expires_at)))

    @apart
    def on_sync_answer(self, answer: SyncResult | ErrorFrame) -> None:
        """A batch of operations that a `sync` frame brought is done, or cannot be."""
        if not self.is_over:
            self._say(answer)

    @apart
    def on_ack_refused(self, ack: CursorAck, result: AckResult) -> None:
        """An ack of ours did not count: the epoch was raised, or the log has lost its end."""
        if result.epoch != ack.epoch:
            self.end(CloseCode.HUB_TROUBLE, "log epoch raised")
        else:
            self.end(CloseCode.HUB_TROUBLE, "the log has lost events that were acked")

    @apart
    def on_keys_changed(self) -> None:
        """The key sets were read anew: what a retired key has signed is not good any more."""
        if not self._validity.is_signed:
            self.end(CloseCode.KEY_RETIRED)

    # From the socket

    def on_ack(self, seq: int) -> None:
        """An ack frame."""
        self._counts.acks += 1
        session = self.session
        if session.ack_passes(seq):
            if seq >= self._sampled_seq:
                self._time_ack()
            self._note_ack(self.device_id, session.epoch, seq)
            return
        if self._sampled_seq <= seq <= session.head:
            self._time_ack()
        actions = session.on_ack(seq)
        if actions:
            self.perform(actions)

    def on_text(self, text: bytes) -> None:
        """Any other text frame."""
        try:
            frame = decode_device_frame(text)
        except FrameError as error:
            self._refuse(error.code, error.detail, error.ref)
            return
        except ProtocolViolation as error:
            HUB_FRAMES_REFUSED.labels("violation").inc()
            self.end(CloseCode.PROTOCOL_ERROR, f"protocol error: {error}")
            return
        match frame:
            case Ack(seq):
                self.on_ack(seq)
            case Token(token):
                self._renew(token)
            case Sync():
                refused = self._hub.apply_operations(self, frame)
                if refused is not None:
                    self._say(refused)

    def on_much(self) -> None:
        """So much came in that a limit may have been passed."""
        socket, now = self.socket, monotonic()
        rate = self._inbound
        if rate is None:
            rate = self._inbound = InboundRate(self._times.inbound, now, sent=self.session.sent)
        frames = max(socket.heard_frames, socket.heard - self._heard_before)
        match rate.judge(now, frames=frames, size=socket.heard_bytes, sent=self.session.sent):
            case RateVerdict.WARN:
                self._refuse("over_rate", "too many frames or bytes; send less, or this connection is closed")
            case RateVerdict.CLOSE:
                self.end(CloseCode.OVER_RATE)
            case RateVerdict.WITHIN | RateVerdict.OVER:
                pass
        socket.look_at_bytes = NEVER_LOOK if self.is_over else socket.heard_bytes + rate.look_after_bytes

    def on_closing(self) -> None:
        """Close frames are exchanged: nothing may follow ours, though the peer may take its time to go."""
        self.session.end(CloseCode.GOING_AWAY)

    def on_fault(self) -> None:
        """Something here failed that cannot: what this connection believes is worth nothing any more."""
        self.socket.close_code = 1011
        self.socket.abort()

    def on_lost(self, socket: DeviceSocket) -> None:
        """The socket is gone."""
        self.is_done = True
        if self._sampled_seq != NEVER_SAMPLED and socket.close_code not in _NOT_LATE:
            self._counts.lag.not_acked(self._sampled_recorded)
        self.appointment.cancel()
        self._time_stall()
        self.session.end(CloseCode.GOING_AWAY)
        self._hub.forget(self)

    # Time

    @apart
    def visit(self, now: float, *, stood_still: bool) -> None:
        """The wheel came by: credential, sign of life, progress."""
        if self.is_done or now < self._next_visit - 0.001:
            return
        if self.session.ended:
            return
        if now >= self._validity.due and self._validity.is_over(now, wall()):
            self.end(CloseCode.EXPIRED)
            return
        socket = self.socket
        waits = socket.buffered > 0 or self.session.behind
        if stood_still:
            self._pulse.forgive(now)
        elif not waits and self._pulse.glance(now, socket.heard, socket.quiet_at):
            self.session.stuck_since = None  # nothing waits: what waits later has its whole time from then on
            self._judge_link(now)
            self._plan_visit(now, waits=False)
            return
        self._judge_signs(now)
        self._judge_link(now)
        if not self.session.ended:
            self._plan_visit(now, waits=waits)

    @apart
    def on_clock_set(self, now: float) -> None:
        """The wall clock was set: the credential may be over sooner than was planned."""
        self._validity.reckon(now, wall())
        if self._validity.due < self._next_visit and not self.is_over:
            self._plan_visit(now)

    def _judge_signs(self, now: float) -> None:
        socket, session = self.socket, self.session
        buffered = socket.buffered
        link = socket.link()
        unsent = buffered + link.unsent
        stuck = session.behind or unsent > 0
        signs = Signs(socket.heard, socket.written, unsent, stuck, link.is_gone, socket.quiet_at)
        match self._pulse.visit(now, signs):
            case Verdict.PING:
                socket.ping()
            case Verdict.GONE:
                _log.info("device is gone", device_id=self.device_id, unanswered=link.unanswered, unsent=unsent)
                socket.close_code = 1006
                socket.abort()
                return
            case Verdict.WAIT:
                pass
        patience = self._times.patience_s
        self.perform(session.on_tick(now, alive_at=self._pulse.alive_at, bytes_wait=unsent > 0, patience_s=patience))

    def _judge_link(self, now: float) -> None:
        """What pings and acks have shown since the last visit."""
        link, rtt_s = self._link, self.socket.rtt_s
        if rtt_s:
            self.socket.rtt_s = 0.0
            HUB_RTT_SECONDS.observe(rtt_s)
            link.answered(rtt_s, self._pulse)
        if link.catch_up is not None:
            window = self.session.window
            ceiling = link.ceiling(now, window.acked_bytes, is_live=self.session.is_live)
            if ceiling is not None:
                window.limit(ceiling)

    def _time_stall(self) -> None:
        """A stall begins when the session falls behind and is over when it reads again, or with the socket."""
        if self.session.behind and not self.is_done:
            self._holds_up = True
            self._stalled_at = self._stalled_at or monotonic()
        elif self._stalled_at:
            HUB_WINDOW_STALL_SECONDS.observe(monotonic() - self._stalled_at)
            self._stalled_at = 0.0

    def _sample(self, seq: int, body: bytes) -> None:
        """This event is one of those that are timed; its ack, too, unless an earlier one is still waited for."""
        recorded = self._counts.sample(body)
        if self._sampled_seq == NEVER_SAMPLED and seq > self.session.acked:
            self._sampled_seq, self._sampled_at, self._sampled_recorded = seq, monotonic(), recorded

    def _time_ack(self) -> None:
        self._counts.lag.acked(self._sampled_at, self._sampled_recorded)
        self._sampled_seq = NEVER_SAMPLED

    def _plan_visit(self, now: float, *, waits: bool | None = None) -> None:
        """`waits`: whether something waits for the device, where that was looked at already."""
        due = self._pulse.due
        due = min(due, self._validity.due)
        if waits is None:
            waits = self.session.behind or self.socket.buffered > 0
        if waits:
            due = min(due, now + self._times.look_s)
        if self._link.catch_up is not None:
            due = min(due, self._link.due(now))
        self._next_visit = max(now, due)
        self._hub.visit_at(self, self._next_visit)

    # Doing

    @apart
    def end(self, code: CloseCode, reason: str | None = None) -> None:
        """Close for a reason from outside the session."""
        self.perform(self.session.end(code, reason))

    @apart
    def tell_moved(self, url: str, after_ms: int, reason: str) -> None:
        """Say where the device shall connect. Nothing else changes here until it has."""
        self.was_sent_on = True
        self._say(Moved(url, after_ms, reason))

    def perform(self, actions: Actions) -> None:
        """Do what the session decided, in its order."""
        for action in actions:
            if isinstance(action, SendEvents):
                events = action.events
                for seq, body in events:
                    self._send_event(seq, body)
                self._counts.sent += len(events)
            elif isinstance(action, RecordAck):
                self._note_ack(self.device_id, self.session.epoch, action.seq)
            elif isinstance(action, ReadLog):
                self._hub.read_log(self, action)
            elif isinstance(action, Hold):
                self._hub.hold(self)
            elif isinstance(action, Say):
                self._say(action.frame)
            elif isinstance(action, End):
                self.socket.close(action.code, action.reason)
        self._time_stall()

    def _send_event(self, seq: int, body: bytes) -> None:
        frame = self._hub.deflater.event(seq, body) if len(body) >= self._deflate_from else None
        self.socket.write(frame or event_bytes(seq, body))

    def _say(self, frame: HubFrame) -> None:
        if isinstance(frame, ErrorFrame):
            HUB_FRAMES_REFUSED.labels(frame.code).inc()
        self.socket.answer(text_bytes(encode_frame(frame)))

    def _refuse(self, code: str, detail: str, ref: str | None = None) -> None:
        self._say(ErrorFrame(code, detail, ref))

    def _renew(self, token: str, *, is_last: bool = False) -> None:
        renewed = self._validity.begin_renewal(token, wall())
        if isinstance(renewed, UnknownKey) and not is_last and self._hub.look_for_key(self, token):
            return
        if isinstance(renewed, str):
            self._refuse("token_refused", str(renewed))
        else:
            self._hub.check_renewal(self, renewed)
