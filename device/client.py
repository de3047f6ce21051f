"""The device client: `async for event in client`, each event once and in order, acked after the body.

    async with Client("truck-7", api="https://fleet.example", token=token, folder=Path("state")) as client:
        async for event in client:
            for file in event.files:
                await client.download(file, Path("inbox") / event.id)

When the body of event n ends and the loop comes round, n is finished, and acked soon after. If the body raises (or the
process dies in it), n is not finished: the next loop, in this run or the next, is given n again with `redelivered=True`
and the same `event.id`. `break` does not end a body by itself, since it looks the same as an exception: say `await
client.finish(event)` before it. With `delivery="at_most_once"` such an event is not given again, and `on_skipped` says
so. With `position_store=` the application commits `event.position` with its own data, and the effects of each event
happen exactly once.

The other way round, `client.submit(operation)` keeps an operation on this device until the server has said what became
of it, however long the way there is cut; `async for result in client.results()` gives that back, each once.
"""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from random import Random, SystemRandom
from types import TracebackType
from typing import Any, Literal, NamedTuple

from device.addresses import check_api, check_socket_url
from device.credential import TokenSource, check_token
from device.errors import ClientClosed, ConfigurationError
from device.event import Event, ResponseFile
from device.outbox_file import OutboxLimits
from device.position_file import OnCorrupt
from device.positions import PositionStore
from device.results import Result
from device.route import State
from device.run import Callbacks, Options, Reset, Run, StateChange
from device.timing import Timing
from shared.protocol.ids import InvalidId, check_device_id
from shared.protocol.operations import Operation
from shared.protocol.position import Position

__all__ = ["Client", "OutboxState"]

_log = logging.getLogger("fleetwire.device")


class OutboxState(NamedTuple):
    """How many operations wait to be sent, and results to be taken; why the last try failed, for people."""

    waiting: int
    results: int
    trouble: str


class Client:
    """One device's client. Use it as `async with`; one loop at a time.

    With `api` the client asks where to connect and can go on by REST; with `socket_url` it connects there, with the
    token. `folder` keeps the position file; without it and without `position_store` each run begins at what was acked.
    Operations are kept there, too, or in `outbox_folder`.
    `token` is text, or a callable (sync or async) that returns a new one when the server refuses the one in use.
    `on_state`, `on_skipped` and `on_notice` are plain functions; `on_reset` may be async and runs between two events.
    """

    def __init__(
        self,
        device_id: str,
        *,
        token: TokenSource,
        api: str | None = None,
        socket_url: str | None = None,
        folder: Path | None = None,
        position_store: PositionStore | None = None,
        delivery: Literal["at_least_once", "at_most_once"] = "at_least_once",
        on_state: Callable[[StateChange], None] | None = None,
        on_reset: Callable[[Reset], Awaitable[None] | None] | None = None,
        on_skipped: Callable[[Event], None] | None = None,
        on_notice: Callable[[Mapping[str, Any]], None] | None = None,
        on_corrupt: OnCorrupt | None = None,
        outbox_folder: Path | None = None,
        outbox_limits: OutboxLimits | None = None,
        tls: ssl.SSLContext | None = None,
        timing: Timing | None = None,
        rand: Random | None = None,
    ) -> None:
        """Check the arguments and open nothing. Raises ConfigurationError."""
        try:
            self.device_id = check_device_id(device_id)
        except InvalidId as error:
            raise ConfigurationError(str(error)) from None
        if api is None and socket_url is None:
            raise ConfigurationError("give api=, the address of the API, or socket_url=, the address of a hub")
        if folder is not None and position_store is not None:
            raise ConfigurationError("give folder= or position_store=, not both: the position has one keeper")
        if delivery not in ("at_least_once", "at_most_once"):
            raise ConfigurationError("delivery must be at_least_once or at_most_once")
        at_most_once = delivery == "at_most_once"
        checked_api = check_api(api) if api is not None else None
        self._options = Options(
            device_id=device_id,
            token=check_token(token) if not callable(token) else token,
            api=checked_api,
            socket_url=check_socket_url(socket_url, api=checked_api) if socket_url is not None else None,
            folder=folder,
            store=position_store,
            at_most_once=at_most_once,
            # A lost position means that events may be given twice, which at-most-once must not do by itself.
            on_corrupt=on_corrupt or ("raise" if at_most_once else "restart"),
            outbox_folder=outbox_folder or folder,
            outbox_limits=outbox_limits or OutboxLimits(),
            tls=tls,
            timing=timing or Timing(),
            rand=rand or SystemRandom(),
        )
        self._callbacks = Callbacks(self._on_state, on_reset, on_skipped, on_notice)
        self._tell_state = on_state
        self._state = StateChange(State.CONNECTING, "")
        self._changed = asyncio.Event()
        self._run: Run | None = None
        self._closed = False

    async def __aenter__(self) -> "Client":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> "_Events":
        return _Events(self)

    async def start(self) -> Run:
        """Lock and read the position, begin to connect. Works without any network. Raises PositionFileError."""
        if self._closed:
            raise ClientClosed("this client was closed; make a new one")
        if self._run is None:
            self._run = await Run.start(self._options, self._callbacks)
        return self._run

    async def close(self) -> None:
        """Ack what is finished, close the socket, unlock the position. Idempotent."""
        self._closed = True
        run, self._run = self._run, None
        if run is not None:
            try:
                await run.close()
            finally:
                if self._state.state is not State.CLOSED:
                    self._on_state(StateChange(State.CLOSED, "closed by the application"))

    async def finish(self, item: Event | Result) -> None:
        """The body of this event or result has ended, before the loop comes round. Needed only before `break`."""
        run = self._running()
        if isinstance(item, Result):
            await (await run.operations()).finish(item)
        elif run.given is not None and run.given.position == item.position:
            await run.finish()

    async def submit(self, operation: Mapping[str, Any] | Operation, *, after: str | None = None) -> str:
        """Keep an operation, durably, until it is settled; its `op_id`, made if it has none. Works without any network.

        `after` names an operation on the same entity that was submitted before, instead of a `base_version`: this one
        is made upon what that one leaves, and is not sent if that one has no effect. Submitting the same again under
        the same `op_id` changes nothing. Raises OperationInvalid, OutboxFull, OutboxError.
        """
        return await (await self._running().operations()).submit(operation, after)

    def results(self) -> "_Results":
        """What became of operations, each once, in the order in which it became known: `async for`, one loop at a
        time. A result is kept until its body has ended, as with events."""
        return _Results(self)

    async def wait_settled(self) -> None:
        """Return when no operation waits to be sent any more. The deadline is the caller's."""
        await (await self._running().operations()).wait_settled()

    @property
    def outbox(self) -> OutboxState:
        """What is kept now."""
        run = self._run
        if run is None or run.keeper is None:
            return OutboxState(0, 0, "")
        return OutboxState(run.keeper.waiting, run.keeper.results, run.trouble_of_operations)

    async def download(self, file: ResponseFile, folder: Path) -> Path:
        """Fetch a file into a folder: resumed, checked against size and hash, never over another file.

        Raises DownloadError (FileDiffers, FileGone, HashMismatch, ForeignOrigin), or TransportError when the tries are
        over.
        """
        downloads = self._running().downloads
        if downloads is None:
            raise ConfigurationError("files come by the API: give api=")
        return await downloads.fetch(file, folder)

    async def responses(self, **params: str | int) -> dict[str, Any]:
        """One page of `GET /api/v1/devices/{id}/responses`, the state to fetch after a reset. Raises TransportError."""
        rest = self._running().rest
        if rest is None:
            raise ConfigurationError("the state comes by the API: give api=")
        return await rest.responses(params)

    @property
    def state(self) -> StateChange:
        """What holds now."""
        return self._state

    async def wait_for_state(self, *states: State) -> StateChange:
        """Return when one of these holds. The deadline is the caller's."""
        while self._state.state not in states:
            await self._changed.wait()
        return self._state

    @property
    def position(self) -> Position | None:
        """Up to where the application has finished."""
        return self._run.session.done if self._run is not None else None

    def hurry(self) -> None:
        """The network is back, says the system or a person: try now instead of after the backoff."""
        if self._run is not None:
            self._run.hurry()

    def __repr__(self) -> str:
        return (
            f"Client({self.device_id}, {self._state.state.value}, {self._run.session if self._run else 'not running'})"
        )

    def _running(self) -> Run:
        if self._run is None:
            raise ClientClosed("the client is not running; use it inside `async with`")
        return self._run

    def _on_state(self, change: StateChange) -> None:
        self._state = change
        self._changed.set()
        self._changed = asyncio.Event()
        if self._tell_state is None:
            return
        try:
            self._tell_state(change)
        except Exception:  # noqa: BLE001 - the application's fault must not end the connection it is told about
            _log.exception("on_state failed")


class _Events:
    """One loop. What it gave is finished when it is asked for the next; what an older loop left comes again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._begun = False

    def __aiter__(self) -> "_Events":
        return self

    async def __anext__(self) -> Event:
        run = await self._client.start()
        if not self._begun:
            self._begun = True
            run.give_back()
        return await run.next()


class _Results:
    """One loop over results. What it gave is taken when it is asked for the next; what an older loop left comes
    again."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._begun = False

    def __aiter__(self) -> "_Results":
        return self

    async def __anext__(self) -> Result:
        keeper = await (await self._client.start()).operations()
        if not self._begun:
            self._begun = True
            keeper.give_back()
        return await keeper.next_result()
