"""`fleetwire device`: be a device at a terminal, with this set-up's address and keys.

The place in the log is kept in the home, and the files as well unless another inbox is named, so that the next run goes
on where this one ended.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from device import terminal
from device.timing import Timing
from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.onebox.home import Home, make_directory
from shared.clock import wall
from shared.protocol.ids import check_device_id, device_class_problem
from shared.settings import load

__all__ = ["device_token", "run"]

TOKEN_LIFETIME_S: Final = 3600.0


def run(
    environ: Mapping[str, str],
    device_id: str,
    *,
    device_class: str,
    inbox: Path | None,
    count: int,
    submit: Path | None = None,
    timing: Timing | None = None,
) -> int:
    """Run until `count` events were handled, or until stopped. 1 when the device cannot go on."""
    settings = load(CommandSettings, environ)
    check_device_id(device_id)
    if problem := device_class_problem(device_class):
        raise CommandFailed(f"--class: {problem}")
    api = settings.need_api_url()
    token = device_token(settings, device_id, device_class)
    folder = _device_folder(settings.home, device_id)
    inbox = inbox or folder / "inbox"
    make_directory(inbox, 0o755)
    if requests := settings.make_request_folder(device_id):
        _tell(f"requests of this device go into {requests}")
    _tell(f"files are saved in {inbox}")

    return terminal.main(
        device_id=device_id,
        token=token,
        api=api,
        folder=inbox,
        state_folder=folder,
        count=count,
        submit=submit,
        timing=timing,
    )


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


def _device_folder(home: Home, device_id: str) -> Path:
    home.prepare()
    folder = home.path / "devices" / device_id
    make_directory(folder, 0o700)
    return folder


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
