"""Carries frames, pages and acks between the network and the session: the tasks, and nothing that decides.

One task keeps a socket, one moves it when a hub asks, one renews its credential, two go the way round by REST while
there is no socket, one ticks; each socket has a reader and a writer. All of them look at the same session and route,
and wait for one signal that something changed. Whatever one of them cannot go on after ends the group, and with it the
client. What goes wrong with a second socket never does: the first one goes on.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random

from device.actions import (
    Action,
    CloseLink,
    Gone,
    Live,
    MoveTo,
    NoticeSaid,
    Ping,
    PostAck,
    Said,
    SendAck,
    Synced,
    TokenHeld,
)
from device.addresses import socket_url
from device.asking import Asking
from device.changes import Changes
from device.credential import Credential
from device.errors import (
    ClientClosed,
    ProtocolRefused,
    Refused,
    Replaced,
    Revoked,
    TransportError,
    Unreachable,
)
from device.expiry import connection_expiry, instant
from device.keep_credential import CredentialKeeper
from device.link import LinkClosed, open_link
from device.moves import Moves
from device.positions import Ledger
from device.problems import FLAPPING
from device.renewal import Renewal
from device.rest import Rest
from device.results import Answer
from device.route import Route
from device.session import Session
from device.targets import Target, Targets
from device.timing import Timing
from device.way_round import WayRound
from device.wire import Wire
from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode, Return

__all__ = ["Carrier"]

_log = logging.getLogger("fleetwire.device")


@dataclass
class Carrier:
    """`run()` until something final happens. `changed` is called after every change of what the application can see."""

    session: Session
    route: Route
    ledger: Ledger
    credential: Credential
    timing: Timing
    rand: Random
    device_id: str
    instance: str
    changed: Callable[[], None]
    on_notice: Callable[[NoticeSaid], None]
    on_over_rate: Callable[[], None]
    rest: Rest | None = None
    fixed_url: str | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.trouble = ""  # the last try that failed, for people
        self._wires: dict[int, Wire] = {}
        self._asking = Asking()
        self._attempt = 0
        self._dialing = asyncio.Lock()
        self._settling = False
        self._targets = Targets(self.credential, self.rest, self.fixed_url)
        timing = self.timing
        self._moves = Moves(pace_s=timing.move_pace_s, after_max_s=timing.retry_after_max_s)
        renewal = Renewal(
            self.rand,
            before_s=timing.renew_before_s,
            retry_base_s=timing.renew_again_s,
            retry_cap_s=20 * timing.renew_again_s,
        )
        self._keeper = CredentialKeeper(
            self.session, self.credential, self._targets, renewal, wires=self._wires, timing=timing
        )
        self._wished = asyncio.Event()
        self._changes = Changes(self.changed, tick_max_s=self.timing.tick_max_s)
        self._way_round: WayRound | None = None
        if self.rest is not None:
            self._way_round = WayRound(
                rest=self.rest,
                session=self.session,
                route=self.route,
                ledger=self.ledger,
                timing=self.timing,
                changes=self._changes,
                do=self.do,
                trouble=self._trouble,
            )
        self._group: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Keep going until cancelled. Raises ExceptionGroup around what ended it."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._keep_socket())
            group.create_task(self._move_when_asked())
            group.create_task(self._tick())
            if self.credential.renewable:
                group.create_task(self._keeper.run())
            if self._way_round is not None:
                group.create_task(self._way_round.read_pages())
                group.create_task(self._way_round.post_acks())

    @property
    def detail(self) -> str:
        """Why the state is what it is, for people."""
        parked_s = self.route.parked_s(monotonic())
        if not parked_s:
            return self.trouble
        return f"this device connects too often; the socket is tried again in {parked_s:.0f} s"

    def do(self, actions: Iterable[Action]) -> None:
        """Perform what the session decided. Never waits: what takes time is left to the task that does it."""
        for action in actions:
            match action:
                case SendAck(number, seq):
                    if wire := self._wires.get(number):
                        wire.ack(seq)
                case PostAck(position) if self._way_round is not None:
                    self._way_round.to_post = position
                case Ping(number):
                    if wire := self._wires.get(number):
                        wire.ping()
                case CloseLink(number, code, reason, abort):
                    _log.debug("closing socket %d: %s", number, reason)
                    if wire := self._wires.get(number):
                        wire.abort() if abort else wire.close(code, reason)
                case Live(number, jitter_s):
                    self._on_live(number, jitter_s)
                case Gone() as gone:
                    self._on_gone(gone)
                case MoveTo(number, url, after_s):
                    self._moves.plan(number, url, after_s, monotonic())
                    self._wished.set()
                case NoticeSaid() as notice:
                    self.on_notice(notice)
                case TokenHeld(number, expires_at):
                    if number == self.session.newest:
                        self._keeper.on_credential(instant(expires_at))
                case Synced(number, ref, results):
                    self._asking.answered(number, ref, results)
                case Said(number, code, detail, ref) if self._asking.refused(number, ref, code, detail):
                    pass  # whoever asked knows
                case Said(_, code, detail):
                    if code == "over_rate":
                        self.on_over_rate()
                    _log.warning("the hub refused a frame: %.100s: %.300s", code, detail)
                    if code == "token_refused":
                        self._keeper.on_refused()
        self.notify()

    def notify(self) -> None:
        """Something changed: wake whoever waits for it."""
        self._changes.notify()

    async def sync(self, operations: bytes) -> list[Answer]:
        """Send a batch of operations, JSON objects with commas between, over the newest socket, and wait for its
        results. Raises SyncRefused, Unreachable."""
        wire = self._wires.get(self.session.newest or 0)
        if wire is None or wire.closing:
            raise Unreachable("there is no socket")
        with self._asking.question(wire.number) as (ref, answer):
            wire.sync(b'{"type":"sync","ref":"%b","operations":[%b]}' % (ref.encode(), operations))
            try:
                async with asyncio.timeout(self.timing.sync_answer_s):
                    return await answer
            except TimeoutError:
                raise Unreachable("no answer to a batch of operations") from None

    async def settle(self) -> None:
        """Send what is finished to the server and close the sockets, within the closing time. The last thing before the
        end.
        """
        self._settling = True
        self.do(self.session.flush(monotonic()))
        for wire in list(self._wires.values()):
            wire.close(CloseCode.NORMAL, "done")
        try:
            async with asyncio.timeout(2 * self.timing.close_s):
                if self._way_round is not None:
                    await self._way_round.post()
                while self._wires:
                    await self._changes.wait()
        except (TimeoutError, TransportError):
            _log.debug("the last ack may not have arrived; it is sent first at the next start")

    # -- the socket

    async def _keep_socket(self) -> None:
        while True:
            await self._changes.until(lambda: None if self.session.live or self._settling else self.route.socket_due)
            await self._try_socket()

    async def _move_when_asked(self) -> None:
        """A second socket beside the one that told us to move; the session closes the old one when the new one is
        live."""
        while True:
            # Not by the common signal, which every event gives: moves and renewals are rare.
            await self._wished.wait()
            self._wished.clear()
            await self._changes.until(lambda: float("-inf") if self._moves.due is None else self._moves.due)
            if self._settling:
                return
            move = self._moves.take(self.session.newest, monotonic())
            if move is None:
                continue
            refused = await self._try_socket(move.url)
            if self.session.newest == move.link and (refused is None or refused.status == 503):
                wish_s = (refused.retry_after or 0.0) if refused is not None else 0.0
                base_s = max(wish_s, self.timing.backoff_base_s)
                self._moves.failed(move, monotonic(), base_s * self.rand.uniform(1.0, 2.0))
                self._wished.set()

    async def _try_socket(self, moved_to: str | None = None) -> Refused | None:
        """What refused, if it was a refusal."""
        async with self._dialing:
            if moved_to is None and self.session.live:
                return None
            refused = await self._try_targets(moved_to)
            if self.session.live:
                return refused
            now = monotonic()
            if refused is not None and refused.problem == FLAPPING and refused.status == 429:
                self.route.on_flapping(now, refused.retry_after)
            else:
                self.route.on_failed(now, refused.retry_after if refused is not None else None)
            self.notify()
            return refused

    async def _try_targets(self, moved_to: str | None) -> Refused | None:
        """Try one after the other until one is live. What refused, if it was a refusal."""
        refused: Refused | None = None
        try:
            for target in await self._targets.ask(moved_to):
                try:
                    if await self._open(target, moved=moved_to is not None):
                        return None
                except Refused as error:
                    self._trouble(f"socket: HTTP {error.status} {error}")
                    refused = error
                    self._targets.token_refused = self._targets.token_refused or error.status == 401
                    if error.status != 503:
                        break
                except Unreachable as error:
                    self._trouble(f"socket: {error}")
        except Refused as error:
            self._trouble(f"no hub assigned: HTTP {error.status} {error}")
            refused = error
        except Unreachable as error:
            self._trouble(f"no hub assigned: {error}")
        return refused

    async def _open(self, target: Target, *, moved: bool) -> bool:
        self._attempt += 1
        number = self._attempt
        self.session.on_try(number)
        address = socket_url(
            target.url, device_id=self.device_id, after=self.session.received, instance=self.instance, attempt=number
        )
        try:
            link = await open_link(address, target.bearer, timing=self.timing, tls=self.tls)
        except BaseException as error:
            self.do(self.session.on_try_failed(number))
            if moved and isinstance(error, ClientClosed):
                # The place we were sent to does not want us. The socket that sent us may live, and else we ask again.
                raise Unreachable(f"moved, and refused there: {error}") from error
            raise
        if self._settling:
            link.abort()
            self.do(self.session.on_try_failed(number))
            raise Unreachable("the client is closing")
        wire = self._wires[number] = Wire(number, link, self.ledger, bearer=target.bearer, is_ticket=target.is_ticket)
        self.session.on_open(number, monotonic())
        link.tell_bytes(lambda: self.session.on_bytes(number, monotonic()))
        self._spawn(self._read(wire))
        self.notify()
        live = await wire.outcome()
        if not live:
            self._trouble("socket: accepted and closed before the welcome")
        return live

    async def _read(self, wire: Wire) -> None:
        closed = LinkClosed(1006, "connection lost")
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(wire.write())
            try:
                while True:
                    while not self.session.reads(wire.number) and not wire.closing:
                        await self._changes.wait()
                    frame = await wire.link.receive()
                    self.do(self.session.on_frame(wire.number, frame, monotonic()))
            except LinkClosed as end:
                closed = end
            finally:
                writer.cancel()
        del self._wires[wire.number]
        self._asking.closed(wire.number)
        _log.debug("socket %d closed: %s", wire.number, closed)
        try:
            self.do(self.session.on_closed(wire.number, closed.code, closed.reason))
        finally:
            wire.decided(live=False)

    def _on_live(self, number: int, jitter_s: float) -> None:
        self.route.on_live(monotonic(), jitter_s)
        self.session.use_rest(False)
        self.trouble = ""
        if wire := self._wires.get(number):
            wire.decided(live=True)
            self._keeper.on_credential(connection_expiry(wire.bearer))

    def _on_gone(self, gone: Gone) -> None:
        if self._settling:
            return
        self._trouble(f"socket closed: {gone.code} {gone.reason}".rstrip())
        if gone.was_live:
            self.route.on_gone(gone.how, gone.code, monotonic(), replaced=gone.pending)
        if gone.pending:
            return
        if gone.how is Return.NEVER:
            raise _final(gone)
        if gone.how is Return.WITH_NEW_TOKEN:
            self._targets.token_refused = True

    # -- time

    async def _tick(self) -> None:
        while True:
            await self._changes.until(self.session.next_tick)
            self.do(self.session.on_tick(monotonic()))
            # Whatever the session wants, nothing ticks faster than this.
            await asyncio.sleep(0.005)

    def _spawn(self, work: "asyncio._CoroutineLike[None]") -> None:
        if self._group is None:
            raise AssertionError("work is spawned while run() runs")
        self._group.create_task(work)

    def _trouble(self, text: str) -> None:
        self.trouble = text
        _log.debug("%s", text)


def _final(gone: Gone) -> ClientClosed:
    what = f"{gone.reason or 'closed'} ({gone.code})"
    match gone.code:
        case CloseCode.REPLACED:
            return Replaced(f"{what}: another client of this device took over; one device runs one client")
        case CloseCode.REVOKED:
            return Revoked(f"{what}: get a new token from whoever runs the fleet, then start again")
        case _:
            return ProtocolRefused(what)
