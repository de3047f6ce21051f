"""A device at a terminal: prints its events, saves their files, submits operations, shows how it is connected.

An event counts as finished when its files are on disk, checked, or were given up with a line that says so. On a
terminal with colours and a line that shows the state, else as plain lines. What comes from the server is shown without
control characters.
"""

import asyncio
import contextlib
import json
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import SystemRandom
from typing import Any, Final, TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from device.client import Client
from device.credential import TokenSource
from device.errors import ConfigurationError, DeviceError, DownloadError, OperationInvalid, TransportError
from device.event import Event, ResponseFile
from device.results import Result
from device.route import State
from device.run import Reset, StateChange
from device.submit_file import Line, read_operations
from device.timing import Timing
from shared.backoff import Backoff
from shared.clock import iso, wall
from shared.protocol.ids import InvalidId, check_file_name, safe_stem

__all__ = ["main"]

_STEM_MAX_BYTES: Final = 120
_SHOWN_MAX: Final = 300
_ROUNDS_MAX: Final = 5  # of tries for one file, each with its own backoff, while the server can be reached
_DOCUMENT: Final = "response.json"
_DOCUMENT_MAX_BYTES: Final = 1024 * 1024
_WORDS: Final = {
    State.CONNECTING: "connecting",
    State.LIVE: "live: events come over the socket",
    State.REST: "no socket: events come by REST",
    State.OFFLINE: "offline: trying again",
}
_STYLES: Final = {
    State.CONNECTING: "yellow",
    State.LIVE: "green",
    State.REST: "cyan",
    State.OFFLINE: "red",
    State.CLOSED: "dim",
}


def main(
    *,
    device_id: str,
    token: TokenSource,
    api: str | None = None,
    socket_url: str | None = None,
    folder: Path | None = None,
    state_folder: Path | None = None,
    count: int = 0,
    submit: Path | None = None,
    out: TextIO | None = None,
    timing: Timing | None = None,
) -> int:
    """Be this device until `count` events are handled (0: until stopped). 0 when stopped, 1 when it cannot go on, 2
    when the arguments cannot work. The operations in the file `submit`, one JSON object a line, are submitted first.

    Files go to `folder` (default: `./<device_id>`), one folder per response; the position is kept in `state_folder`
    (default: hidden in `folder`).
    """
    timing = timing or Timing()
    screen = _Screen(Console(file=out or sys.stdout, highlight=False, soft_wrap=True), timing)
    folder = folder or Path(device_id)
    try:
        client = Client(
            device_id,
            token=token,
            api=api,
            socket_url=socket_url,
            folder=state_folder or folder / ".fleetwire",
            on_state=screen.state,
            on_reset=screen.reset,
            on_notice=screen.notice,
            timing=timing,
        )
    except ConfigurationError as error:
        screen.line("error", str(error), "red")
        return 2
    try:
        operations = [] if submit is None else read_operations(submit)
    except ConfigurationError as error:
        screen.line("error", str(error), "red")
        return 2
    with screen.running(device_id):
        try:
            asyncio.run(_until_stopped(client, screen, folder, count, operations))
        except DeviceError as error:
            screen.line("ended", str(error), "red")
            return 1
        screen.line("ended", "what was finished is acked", "dim")
    return 0


async def _until_stopped(
    client: Client, screen: "_Screen", folder: Path, count: int, operations: Sequence[Line]
) -> None:
    """SIGINT and SIGTERM end it in order: what is finished is acked first."""
    loop = asyncio.get_running_loop()
    handling = asyncio.ensure_future(_be(client, screen, folder, count, operations))
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        handling.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Off the main thread there are no signals to take; whoever runs it there stops it otherwise.
        with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):
            loop.add_signal_handler(number, stop)
    try:
        await handling
    except asyncio.CancelledError:
        if not stopped:
            raise


async def _be(client: Client, screen: "_Screen", folder: Path, count: int, operations: Sequence[Line]) -> None:
    async with client:
        await _submit(client, screen, operations)
        results = asyncio.ensure_future(_show_results(client, screen))
        try:
            await _handle(client, screen, folder, count)
        finally:
            results.cancel()
            await asyncio.gather(results, return_exceptions=True)


async def _handle(client: Client, screen: "_Screen", folder: Path, count: int) -> None:
    handled = 0
    async for event in client:
        screen.event(event)
        await _save(client, screen, event, folder)
        handled += 1
        if handled == count:
            await client.finish(event)
            return


async def _submit(client: Client, screen: "_Screen", operations: Sequence[Line]) -> None:
    for number, operation, after in operations:
        try:
            await client.submit(operation, after=after)
        except OperationInvalid as error:
            screen.line("not submitted", f"line {number}: {error}", "red")
    if operations:
        screen.line("submitted", f"{client.outbox.waiting} operations wait to be sent", "bold")


async def _show_results(client: Client, screen: "_Screen") -> None:
    with contextlib.suppress(DeviceError):  # the loop over events says how it ended
        async for result in client.results():
            screen.result(result)


async def _save(client: Client, screen: "_Screen", event: Event, folder: Path) -> None:
    try:
        files = event.files
    except DownloadError as error:
        screen.line("  no files", str(error), "red")
        return
    place = folder / _folder_name(event)
    for file in files:
        try:
            path = await _fetch(client, screen, file, place)
        except DownloadError as error:
            screen.line("  not saved", f"{file.name}: {error}; going on without it", "red")
        else:
            screen.line("  saved", f"{path} ({file.size} bytes, checked)", "green")
            if file.name == _DOCUMENT and file.size <= _DOCUMENT_MAX_BYTES:
                screen.outcome(await asyncio.to_thread(path.read_bytes))


async def _fetch(client: Client, screen: "_Screen", file: ResponseFile, place: Path) -> Path:
    """As long as there is no network, for as long as it takes: the event is not finished without its files. With a way
    to the server it is the store that fails, and waiting has an end: later events must not wait for one bad file."""
    base, cap = screen.timing.backoff_base_s, screen.timing.backoff_cap_s
    backoff = Backoff(SystemRandom(), base=2 * base, cap=1.5 * cap)
    rounds = 0
    while True:
        try:
            return await client.download(file, place)
        except TransportError as error:
            rounds += client.state.state in (State.LIVE, State.REST)
            if rounds >= _ROUNDS_MAX:
                raise DownloadError(f"given up after {rounds} rounds of tries ({error})") from error
            delay = backoff.next()
            screen.line("  not yet", f"{file.name}: {error}; trying again in {delay:.0f} s", "yellow")
            await asyncio.sleep(delay)


def _folder_name(event: Event) -> str:
    """One folder per response, named as in the cloud folder when it answers a request: two may hold files of one
    name.
    """
    request = event.data.get("request")
    name = request.get("name") if isinstance(request, dict) else None
    own = event.data.get("job_id")
    own = own if isinstance(own, str) else event.id
    try:
        stem = safe_stem(name, max_bytes=_STEM_MAX_BYTES) if isinstance(name, str) else "event"
        folder = check_file_name(f"{stem}.{own}")
    except (InvalidId, UnicodeError):
        folder = f"event.{event.position.epoch}-{event.position.seq}"
    return folder if not folder.startswith(".") else f"_{folder}"


class _Screen:
    """Where lines go, and how patient the run is."""

    def __init__(self, console: Console, timing: Timing) -> None:
        self.timing = timing
        self._console = console
        self._status: Status | None = None

    @contextlib.contextmanager
    def running(self, device_id: str) -> Iterator[None]:
        """While this lasts, the state is on the last line of a terminal."""
        if not self._console.is_terminal:
            yield
            return
        with self._console.status(Text(f"{device_id}: connecting")) as status:
            self._status = status
            self._name = device_id
            yield
            self._status = None

    def line(self, what: str, text: str = "", style: str = "") -> None:
        """One line, with the time."""
        line = Text.assemble((iso(wall()), "dim"), "  ", (_clean(what), style), f"  {_clean(text)}" if text else "")
        self._console.print(line)

    def event(self, event: Event) -> None:
        request = event.data.get("request")
        parts = [str(event.position), event.id]
        if isinstance(request, dict) and isinstance(request.get("name"), str):
            parts.append(f"for {request['name']}")
        if isinstance(event.data.get("reason"), str):
            parts.append(f"reason: {event.data['reason']}")
        elif event.data and not event.data.get("files"):
            parts.append(json.dumps(event.data, ensure_ascii=False, separators=(",", ":")))
        if event.redelivered:
            parts.append("(given again)")
        self.line(event.type or "event", "  ".join(parts), "bold")

    def result(self, result: Result) -> None:
        """What became of an operation."""
        parts = [str(result.operation.get("type", "")), str(result.operation.get("entity_id", ""))]
        if result.version is not None:
            parts.append(f"version {result.version}")
        if result.error is not None:
            parts.append(f"{result.error.code}: {result.error.detail}")
        self.line(result.status, "  ".join(parts), "green" if result.has_effect else "yellow")

    def outcome(self, document: bytes) -> None:
        """What the server could not do with the request, from the response's own document."""
        try:
            said = json.loads(document)
        except (ValueError, RecursionError):
            return
        if not isinstance(said, dict) or said.get("outcome") in (None, "processed"):
            return
        detail = said.get("detail")
        self.line(f"  {said['outcome']}", detail if isinstance(detail, str) else "", "yellow")

    def state(self, change: StateChange) -> None:
        if self._status is not None:
            self._status.update(Text(f"{self._name}: {change.state.value}", _STYLES[change.state]))
        if change.state is State.CLOSED:
            return  # how it ended is said once, by who knows
        # A live socket needs no reason; the others say what was last in the way.
        detail = "" if change.state is State.LIVE else change.detail
        self.line(_WORDS[change.state], detail, _STYLES[change.state])

    def notice(self, data: Mapping[str, Any]) -> None:
        self.line("notice", json.dumps(dict(data), ensure_ascii=False, separators=(",", ":")), "magenta")

    def reset(self, reset: Reset) -> None:
        text = f"events before {reset.position} are gone ({reset.reason}); going on from there"
        self.line("reset", text, "red")


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)[
        :_SHOWN_MAX
    ]
