"""`fleetwire device`: be a device at a terminal.

Prints each event, saves its files after they are checked, shows changes of state. The place in the log and the files
are kept in the home, so that the next run goes on where this one ended.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from device.client import Client
from device.errors import DownloadError
from device.event import Event
from device.run import Reset, StateChange
from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.onebox.home import Home, make_directory
from shared.clock import iso, wall
from shared.protocol.ids import check_device_id, device_class_problem
from shared.settings import load

__all__ = ["device_token", "make_request_folder", "run"]

TOKEN_LIFETIME_S: Final = 3600.0


def run(environ: Mapping[str, str], device_id: str, *, device_class: str, inbox: Path | None, count: int) -> int:
    """Run until `count` events were handled, or until stopped."""
    settings = load(CommandSettings, environ)
    check_device_id(device_id)
    if problem := device_class_problem(device_class):
        raise CommandFailed(f"--class: {problem}")
    api = settings.need_api_url()
    token = device_token(settings, device_id, device_class)
    folder = _device_folder(settings.home, device_id)
    inbox = inbox or folder / "inbox"
    make_directory(inbox, 0o755)
    if requests := make_request_folder(settings, device_id):
        _tell(f"requests of this device go into {requests}")
    _tell(f"files are saved in {inbox}")

    client = Client(device_id, api=api, token=token, folder=folder, on_state=_show_state, on_reset=_show_reset)
    return asyncio.run(_until_stopped(client, inbox, count))


def device_token(settings: CommandSettings, device_id: str, device_class: str) -> str | Callable[[], str]:
    """The token of the environment, or a maker of tokens with this set-up's own key."""
    if settings.token is not None:
        return settings.token
    keys = settings.need_signing_keys()

    def make() -> str:
        return keys.mint(
            subject=device_id,
            scopes=frozenset({"device"}),
            now=wall(),
            lifetime_s=TOKEN_LIFETIME_S,
            device_class=device_class,
        )

    return make


def make_request_folder(settings: CommandSettings, device_id: str) -> Path | None:
    """Where files for this device are dropped, when the cloud folder is on this machine."""
    running = settings.running
    if running is None or not Path(running.cloud).is_dir():
        return None
    folder = Path(running.cloud) / "Requests" / device_id
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _device_folder(home: Home, device_id: str) -> Path:
    home.prepare()
    folder = home.path / "devices" / device_id
    make_directory(folder, 0o700)
    return folder


async def _until_stopped(client: Client, inbox: Path, count: int) -> int:
    loop = asyncio.get_running_loop()
    handling = asyncio.create_task(_handle_events(client, inbox, count))
    loop.add_signal_handler(signal.SIGTERM, handling.cancel)
    loop.add_signal_handler(signal.SIGINT, handling.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await handling
    return 0


async def _handle_events(client: Client, inbox: Path, count: int) -> None:
    handled = 0
    async with client:
        async for event in client:
            _show_event(event)
            await _save_files(client, event, inbox)
            handled += 1
            if handled == count:
                await client.finish(event)
                return


async def _save_files(client: Client, event: Event, inbox: Path) -> None:
    try:
        files = event.files
    except DownloadError as error:
        _tell(f"  the event's files cannot be read: {error}")
        return
    for file in files:
        # By event, since two responses may hold files of the same name.
        folder = inbox / _folder_name(event)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            saved = await client.download(file, folder)
        except DownloadError as error:
            _tell(f"  {file.name} was not saved: {error}")
        else:
            print(f"  saved {saved} ({file.size} bytes, sha256 {file.sha256[:12]}… checked)", flush=True)


def _folder_name(event: Event) -> str:
    return f"{event.position.epoch}-{event.position.seq}"


def _show_event(event: Event) -> None:
    request = event.data.get("request")
    name = request.get("name") if isinstance(request, dict) else None
    parts = [iso(wall()), str(event.position), event.type]
    parts += [f"for {_clean(name)}"] if isinstance(name, str) else []
    parts += [f"reason: {_clean(str(event.data['reason']))}"] if "reason" in event.data else []
    parts += ["(given again)"] if event.redelivered else []
    print("  ".join(parts), flush=True)


def _show_state(change: StateChange) -> None:
    _tell(f"{change.state.value}{f': {_clean(change.detail)}' if change.detail else ''}")


def _show_reset(reset: Reset) -> None:
    _tell(f"events before {reset.position} are gone ({_clean(reset.reason)}); going on from there")


def _clean(text: str) -> str:
    return "".join(character if character.isprintable() else "�" for character in text)[:300]


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
