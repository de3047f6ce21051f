"""One run of a client, from `start()` to `close()`: the loop's side of the session, and the order in which things are
recorded.

Begin is noted, then the body runs, then its end is noted, then the session hears of it, and only then an ack may leave.
Whatever is raised on the way leaves the event unfinished.
"""

import asyncio
import inspect
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from uuid import uuid4

from device.actions import Delivery, NoticeSaid, Repeat, ResetSaid, Skipped, Taken
from device.carrier import Carrier
from device.changes import Changes
from device.credential import Credential, TokenSource
from device.download import Downloads
from device.errors import ClientClosed, ConfigurationError, DeviceError
from device.event import Event
from device.keeper import Keeper
from device.liveness import Patience
from device.outbox import Pace
from device.outbox_file import OutboxLimits, exists
from device.position_file import OnCorrupt, PositionFile
from device.positions import FileLedger, Ledger, MemoryLedger, PositionStore, StoreLedger
from device.rest import Rest
from device.route import Route, State
from device.sender import Sender
from device.session import Session
from device.timing import Timing
from shared.clock import monotonic
from shared.protocol.position import Position

__all__ = ["Callbacks", "Options", "Reset", "Run", "StateChange"]

_log = logging.getLogger("fleetwire.device")


class StateChange(NamedTuple):
    """What holds from now on, and why, for people."""

    state: State
    detail: str


class Reset(NamedTuple):
    """Events before `position` are gone for good. Fetch the state (`client.responses()`) before you return."""

    position: Position
    reason: str


@dataclass(frozen=True, slots=True)
class Options:
    """What a client was given, checked."""

    device_id: str
    token: TokenSource = field(repr=False)
    api: str | None
    socket_url: str | None
    folder: Path | None
    store: PositionStore | None
    at_most_once: bool
    on_corrupt: OnCorrupt
    outbox_folder: Path | None
    outbox_limits: OutboxLimits
    tls: ssl.SSLContext | None
    timing: Timing
    rand: Random


@dataclass(frozen=True, slots=True)
class Callbacks:
    """Whom to tell."""

    state: Callable[[StateChange], None]
    reset: Callable[[Reset], Awaitable[None] | None] | None
    skipped: Callable[[Event], None] | None
    notice: Callable[[Mapping[str, Any]], None] | None


class Run:
    """Made by `start()`."""

    def __init__(self, options: Options, callbacks: Callbacks, session: Session, ledger: Ledger) -> None:
        self.session = session
        self.given: Delivery | None = None
        self.rest: Rest | None = None
        self.downloads: Downloads | None = None
        self.keeper: Keeper | None = None
        self._sender: Sender | None = None
        self._opening: asyncio.Task[Keeper] | None = None
        self._is_open = asyncio.Event()
        self._options = options
        self._callbacks = callbacks
        self._ledger = ledger
        self._at_most_once = options.at_most_once
        self._wake = asyncio.Event()
        self._asking = False
        self._is_over = False
        self._end: BaseException | None = None
        self._state: StateChange | None = None
        self._parked = False
        credential = Credential(options.token, deadline_s=options.timing.token_s)
        if options.api is not None:
            self.rest = Rest(options.api, options.device_id, credential, timing=options.timing, tls=options.tls)
            self.downloads = Downloads(self.rest, timing=options.timing, rand=options.rand, tls=options.tls)
        self._route = Route(options.rand, monotonic(), options.timing, has_rest=self.rest is not None)
        self._carrier = Carrier(
            session=session,
            route=self._route,
            ledger=ledger,
            credential=credential,
            timing=options.timing,
            rand=options.rand,
            device_id=options.device_id,
            instance=str(uuid4()),
            changed=self._changed,
            on_notice=self._on_notice,
            on_over_rate=self._on_over_rate,
            rest=self.rest,
            fixed_url=options.socket_url,
            tls=options.tls,
        )
        self._task = asyncio.create_task(self._carry(), name=f"fleetwire {options.device_id}")
        self._changed()

    @classmethod
    async def start(cls, options: Options, callbacks: Callbacks) -> "Run":
        """Lock and read the position, begin to connect. Raises PositionFileError."""
        ledger = await _ledger(options)
        try:
            saved = await ledger.load()
        except BaseException:
            ledger.close()
            raise
        session = Session(
            position=saved.position,
            seen=saved.seen,
            begun=saved.begun,
            position_lost=saved.lost,
            at_most_once=options.at_most_once,
            patience=Patience(
                welcome_s=options.timing.welcome_s,
                silence_heartbeats=options.timing.silence_heartbeats,
                still_working_s=options.timing.still_working_s,
            ),
        )
        run = cls(options, callbacks, session, ledger)
        folder = options.outbox_folder
        if folder is not None and exists(folder, options.device_id):
            # What was left waiting is sent without being asked for.
            try:
                await run.operations()
            except BaseException:
                await run.close()
                raise
        return run

    async def operations(self) -> Keeper:
        """What waits to be sent and to be taken; made at the first call. Raises OutboxError, ConfigurationError."""
        folder = self._options.outbox_folder
        if folder is None:
            raise ConfigurationError("operations are kept in a folder: give folder= or outbox_folder=")
        if self._is_over:
            raise ClientClosed("the client was closed")
        if self._opening is None or (self._opening.done() and self._opening.exception() is not None):
            self._opening = asyncio.create_task(self._open(folder))
        # Whoever is cancelled meanwhile: it is opened once, for all.
        return await asyncio.shield(self._opening)

    @property
    def trouble_of_operations(self) -> str:
        """Why the last batch could not be sent, for people."""
        return self._sender.trouble if self._sender is not None else ""

    async def next(self) -> Event:
        """The next event for the application; the one before is finished. Raises what ended the client."""
        if self._asking:
            raise RuntimeError("a client has one loop at a time")
        self._asking = True
        try:
            await self.finish()
            while True:
                if self._end is not None:
                    raise self._end
                taken = self.session.take()
                if taken is None:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                given = await self._handle(taken)
                if given is not None:
                    return given
        finally:
            self._asking = False

    async def finish(self) -> None:
        """The body of the event in hand, if there is one, has ended."""
        given = self.given
        if given is None:
            return
        await self._ledger.finished(given.position, given.fingerprint)
        self.given = None
        self._carrier.do(self.session.finish(monotonic()))

    def give_back(self) -> None:
        """A new loop begins: what an older one left unfinished comes again."""
        if self.given is not None:
            self.given = None
            self.session.give_back(begun=True)

    def hurry(self) -> None:
        """Try now."""
        self._route.hurry(monotonic())
        self._carrier.notify()
        if self._sender is not None:
            self._sender.hurry()

    async def close(self) -> None:
        """Ack what is finished, close everything, unlock the position. What is being sent is cut; it is sent again."""
        self._is_over = True
        try:
            if not self._task.done():
                await self._carrier.settle()
        finally:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            if self.rest is not None:
                await self.rest.close()
            if self.downloads is not None:
                await self.downloads.close()
            if self._opening is not None:
                await asyncio.gather(self._opening, return_exceptions=True)
            if self.keeper is not None:
                await self.keeper.close()
            self._ledger.close()
            self._end = self._end or ClientClosed("the client was closed")
            self._wake.set()

    # -- inside

    async def _open(self, folder: Path) -> Keeper:
        options = self._options
        timing = options.timing
        keeper = await Keeper.open(
            folder,
            options.device_id,
            limits=options.outbox_limits,
            on_corrupt=options.on_corrupt,
            rand=options.rand,
            pace=Pace(base_s=timing.sync_base_s, cap_s=timing.sync_cap_s),
            changes=Changes(_nobody, tick_max_s=timing.tick_max_s),
        )
        if self._end is not None:
            keeper.end(self._end)
        self._sender = Sender(
            keeper,
            self.rest,
            ask=self._carrier.sync,
            is_live=lambda: self.session.live,
            timing=timing,
            rand=options.rand,
        )
        self.keeper = keeper
        self._is_open.set()
        return keeper

    async def _handle(self, taken: Taken) -> Event | None:
        try:
            match taken:
                case Delivery():
                    await self._ledger.started(taken.position, taken.fingerprint, durable=self._at_most_once)
                    self.given = taken
                    return Event.from_delivery(taken)
                case Skipped():
                    self._skip(taken)
                    await self._ledger.finished(taken.position, taken.fingerprint)
                case Repeat():
                    _log.info("event %s was finished before the log's epoch was raised", taken.position)
                    await self._ledger.finished(taken.position, taken.fingerprint)
                case ResetSaid():
                    await self._reset(taken)
                    await self._ledger.reset(taken.position)
        except BaseException:
            self.session.give_back(begun=False)
            raise
        self._carrier.do(self.session.finish(monotonic()))
        return None

    def _skip(self, skipped: Skipped) -> None:
        delivery = Delivery(skipped.position, skipped.event, skipped.fingerprint, redelivered=True)
        event = Event.from_delivery(delivery)
        _log.warning("event %s (%s) was begun before and did not end; at-most-once skips it", event.position, event.id)
        if self._callbacks.skipped is not None:
            self._callbacks.skipped(event)

    async def _reset(self, said: ResetSaid) -> None:
        _log.warning("events before %s are gone: %s", said.position, said.reason)
        if self._callbacks.reset is not None:
            answer = self._callbacks.reset(Reset(said.position, said.reason))
            if inspect.isawaitable(answer):
                await answer

    async def _carry(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._carrier.run())
                group.create_task(self._send_operations())
        except BaseExceptionGroup as group:
            self._end = _cause(group)
            _log.error("the client of this device has ended: %s", self._end)
            self._say(StateChange(State.CLOSED, str(self._end)))
            self._wake.set()
            if self.keeper is not None:
                self.keeper.end(self._end)

    async def _send_operations(self) -> None:
        await self._is_open.wait()
        assert self._sender is not None
        await self._sender.run()

    def _changed(self) -> None:
        self._wake.set()
        parked = self._route.parked_s(monotonic()) > 0
        # To be parked is news, too, when the state is REST or CONNECTING already.
        self._say(StateChange(self._route.state, self._carrier.detail), news=parked and not self._parked)
        self._parked = parked

    def _say(self, change: StateChange, *, news: bool = False) -> None:
        if news or self._state is None or change.state is not self._state.state:
            self._state = change
            self._callbacks.state(change)
            if self._sender is not None and change.state in (State.LIVE, State.REST):
                self._sender.hurry()

    def _on_over_rate(self) -> None:
        if self._sender is not None:
            self._sender.on_over_rate()

    def _on_notice(self, notice: NoticeSaid) -> None:
        if self._callbacks.notice is None:
            return
        try:
            self._callbacks.notice(notice.data)
        except Exception:  # noqa: BLE001 - the application's fault must not end the socket that the notice came by
            _log.exception("on_notice failed")


def _nobody() -> None:
    """Tasks alone wait for these changes."""


async def _ledger(options: Options) -> Ledger:
    if options.store is not None:
        return StoreLedger(options.store)
    if options.folder is None:
        return MemoryLedger()
    file = await asyncio.to_thread(PositionFile, options.folder, options.device_id, on_corrupt=options.on_corrupt)
    if file.set_aside is not None:
        _log.error("the position file was damaged and is now %s; going on from what was acked", file.set_aside)
    return FileLedger(file)


def _cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ended the tasks: one of ours if there is one, else the first that nobody expected."""
    leaves: list[BaseException] = []
    stack: list[BaseException] = [group]
    while stack:
        error = stack.pop()
        if isinstance(error, BaseExceptionGroup):
            stack.extend(reversed(error.exceptions))
        else:
            leaves.append(error)
    return next((leaf for leaf in leaves if isinstance(leaf, DeviceError)), leaves[0])
