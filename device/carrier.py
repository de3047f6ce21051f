"""Carries frames, pages and acks between the network and the session: the tasks, and nothing that decides.

One task keeps a socket, two go the way round by REST while there is none, one ticks; each socket has a reader and a
writer. All of them look at the same session and route, and wait for one signal that something changed.
Whatever one of them cannot go on after ends the group, and with it the client.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

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
    ack_frame,
)
from device.addresses import same_origin, socket_url
from device.changes import Changes
from device.credential import Credential
from device.errors import ClientClosed, ProtocolRefused, Refused, Replaced, Revoked, TransportError, Unreachable
from device.link import Link, LinkClosed, open_link
from device.positions import Ledger
from device.rest import Rest
from device.route import Route
from device.session import Session
from device.timing import Timing
from device.way_round import WayRound
from shared.clock import monotonic
from shared.protocol.close_codes import CloseCode, Return

__all__ = ["Carrier"]

_log = logging.getLogger("fleetwire.device")


@dataclass
class _Wire:
    """An open socket and its outbox: at most one ack, one ping and one close, the newest of each."""

    number: int
    link: Link
    ack: int | None = None
    ping: bool = False
    close: tuple[int, str] | None = None
    kick: asyncio.Event = field(default_factory=asyncio.Event)
    outcome: "asyncio.Future[bool]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    def decided(self, *, live: bool) -> None:
        """Whether the try for this socket has led to a live one."""
        if not self.outcome.done():
            self.outcome.set_result(live)


@dataclass
class Carrier:
    """`run()` until something final happens. `changed` is called after every change of what the application can see."""

    session: Session
    route: Route
    ledger: Ledger
    credential: Credential
    timing: Timing
    device_id: str
    instance: str
    changed: Callable[[], None]
    on_notice: Callable[[NoticeSaid], None]
    rest: Rest | None = None
    fixed_url: str | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        self.trouble = ""  # the last try that failed, for people
        self._wires: dict[int, _Wire] = {}
        self._attempt = 0
        self._dialing = asyncio.Lock()
        self._moving = False
        self._settling = False
        self._renew = False
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
            group.create_task(self._tick())
            if self._way_round is not None:
                group.create_task(self._way_round.read_pages())
                group.create_task(self._way_round.post_acks())

    def do(self, actions: Iterable[Action]) -> None:
        """Perform what the session decided. Never waits: what takes time is left to the task that does it."""
        for action in actions:
            match action:
                case SendAck(number, seq):
                    self._outbox(number, ack=seq)
                case PostAck(position) if self._way_round is not None:
                    self._way_round.to_post = position
                case Ping(number):
                    self._outbox(number, ping=True)
                case CloseLink(number, code, reason, abort):
                    _log.debug("closing socket %d: %s", number, reason)
                    self._outbox(number, close=(code, reason), abort=abort)
                case Live(number, jitter_s):
                    self._on_live(number, jitter_s)
                case Gone() as gone:
                    self._on_gone(gone)
                case MoveTo(_, url, after_s):
                    self._on_move(url, after_s)
                case NoticeSaid() as notice:
                    self.on_notice(notice)
                case Said(_, code, detail):
                    _log.warning("the hub refused a frame: %s: %s", code, detail)
        self.notify()

    def notify(self) -> None:
        """Something changed: wake whoever waits for it."""
        self._changes.notify()

    async def settle(self) -> None:
        """Send what is finished to the server and close the sockets, within the closing time. The last thing before the
        end.
        """
        self._settling = True
        self.do(self.session.flush(monotonic()))
        for wire in list(self._wires.values()):
            self._outbox(wire.number, close=(CloseCode.NORMAL, "done"))
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
            await self._changes.until(lambda: None if self.session.live else self.route.socket_due)
            await self._try_socket()

    async def _try_socket(self, moved_to: str | None = None) -> None:
        async with self._dialing:
            if moved_to is None and self.session.live:
                return
            retry_after: float | None = None
            try:
                for url, bearer in await self._targets(moved_to):
                    try:
                        if await self._open(url, bearer):
                            return
                    except Refused as refused:
                        self._trouble(f"socket: HTTP {refused.status} {refused}")
                        retry_after = refused.retry_after
                        self._renew = self._renew or refused.status == 401
                        if refused.status != 503:
                            break
                    except Unreachable as error:
                        self._trouble(f"socket: {error}")
            except Refused as refused:
                self._trouble(f"no hub assigned: HTTP {refused.status} {refused}")
                retry_after = refused.retry_after
            except Unreachable as error:
                self._trouble(f"no hub assigned: {error}")
            if not self.session.live:
                self.route.on_failed(monotonic(), retry_after)
                self.notify()

    async def _targets(self, moved_to: str | None) -> list[tuple[str, str]]:
        token = await self.credential.token()
        if self._renew and (self.fixed_url is not None or self.credential.renewable):
            token = await self.credential.renewed(token)
        self._renew = False
        if self.fixed_url is not None:
            if moved_to is not None and not same_origin(moved_to, self.fixed_url):
                raise Unreachable("told to move to another origin; the token is not sent there")
            return [(moved_to or self.fixed_url, token)]
        if self.rest is None:
            raise AssertionError("a client has an API or a socket url")
        found = await self.rest.assignment()
        # A ticket is made for this: it opens one socket and nothing else, so it may go where the hub says.
        urls = found.urls if moved_to is None else (moved_to,)
        return [(url, found.ticket) for url in urls]

    async def _open(self, url: str, bearer: str) -> bool:
        self._attempt += 1
        asked = self.session.received
        address = socket_url(url, device_id=self.device_id, after=asked, instance=self.instance, attempt=self._attempt)
        link = await open_link(address, bearer, timing=self.timing, tls=self.tls)
        wire = self._wires[self._attempt] = _Wire(self._attempt, link)
        self.session.on_open(wire.number, monotonic())
        link.tell_bytes(lambda: self.session.on_bytes(wire.number, monotonic()))
        self._spawn(self._read(wire))
        self.notify()
        # Bounded by the session, which closes a socket that is accepted and silent.
        live = await wire.outcome
        if not live:
            self._trouble("socket: accepted and closed before the welcome")
        return live

    async def _read(self, wire: _Wire) -> None:
        closed = LinkClosed(1006, "connection lost")
        async with asyncio.TaskGroup() as group:
            writer = group.create_task(self._write(wire))
            try:
                while True:
                    while self.session.room == 0 and wire.close is None:
                        await self._changes.wait()
                    frame = await wire.link.receive()
                    self.do(self.session.on_frame(wire.number, frame, monotonic()))
            except LinkClosed as end:
                closed = end
            finally:
                writer.cancel()
        del self._wires[wire.number]
        _log.debug("socket %d closed: %s", wire.number, closed)
        try:
            self.do(self.session.on_closed(wire.number, closed.code, closed.reason))
        finally:
            wire.decided(live=False)

    async def _write(self, wire: _Wire) -> None:
        try:
            while True:
                await wire.kick.wait()
                wire.kick.clear()
                if wire.ping:
                    wire.ping = False
                    await wire.link.ping()
                if wire.ack is not None:
                    # Taken before the sync: what comes in meanwhile may not be durable yet, and has its own turn.
                    seq, wire.ack = wire.ack, None
                    await self.ledger.sync()
                    await wire.link.send(ack_frame(seq))
                if wire.close is not None and wire.ack is None:
                    await wire.link.close(*wire.close)
                    return
        except LinkClosed:
            return  # the reader sees it as well, and says how it ended

    def _outbox(
        self,
        number: int,
        *,
        ack: int | None = None,
        ping: bool = False,
        close: tuple[int, str] | None = None,
        abort: bool = False,
    ) -> None:
        wire = self._wires.get(number)
        if wire is None:
            return
        if abort:
            wire.link.abort()
            return
        wire.ack = ack if ack is not None else wire.ack
        wire.ping = wire.ping or ping
        wire.close = close or wire.close
        wire.kick.set()

    def _on_live(self, number: int, jitter_s: float) -> None:
        self.route.on_live(monotonic(), jitter_s)
        self.session.use_rest(False)
        self.trouble = ""
        if wire := self._wires.get(number):
            wire.decided(live=True)

    def _on_gone(self, gone: Gone) -> None:
        if self._settling:
            return
        self._trouble(f"socket closed: {gone.code} {gone.reason}".rstrip())
        if gone.how is Return.NEVER:
            raise _final(gone)
        if gone.how is Return.WITH_NEW_TOKEN:
            self._renew = True
        if gone.was_live:
            self.route.on_gone(gone.how, gone.code, monotonic())

    def _on_move(self, url: str, after_s: float) -> None:
        if not self._moving:
            self._moving = True
            self._spawn(self._move(url, min(after_s, self.timing.retry_after_max_s)))

    async def _move(self, url: str, after_s: float) -> None:
        """A second socket beside the one that told us to move; the session closes the old one when the new one is
        live.
        """
        try:
            await asyncio.sleep(after_s)
            if self.session.live:
                await self._try_socket(url)
        finally:
            self._moving = False

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
            return Revoked(what)
        case _:
            return ProtocolRefused(what)
