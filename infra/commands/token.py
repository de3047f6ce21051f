"""`fleetwire token`: register a device, make its folder for requests, print a token for it."""

import asyncio
import re
from collections.abc import Mapping
from uuid import uuid4

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from shared.clock import wall
from shared.protocol.ids import check_device_id, device_class_problem
from shared.settings import load
from shared.store import devices
from shared.store.pool import open_pool

__all__ = ["register", "run"]

_SUBJECT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,127}")


def run(
    environ: Mapping[str, str],
    *,
    device: str | None,
    device_class: str,
    scopes: frozenset[str],
    subject: str | None,
    lifetime_s: float,
) -> int:
    """Print the token and nothing else."""
    settings = load(CommandSettings, environ)
    keys = settings.need_signing_keys()
    if device is not None:
        subject = check_device_id(device)
        if problem := device_class_problem(device_class):
            raise CommandFailed(f"--class: {problem}")
        asyncio.run(register(settings.need_database_url(), device, device_class))
        settings.make_request_folder(device)
    elif "device" in scopes:
        raise CommandFailed("a token with the scope device needs --device")
    elif subject is None or not _SUBJECT.fullmatch(subject):
        raise CommandFailed("a token that is not for a device needs --subject: a name of letters, digits and . _ @ -")
    print(
        keys.mint(
            subject=subject,
            scopes=scopes,
            now=wall(),
            lifetime_s=lifetime_s,
            device_class=device_class if device is not None else None,
            token_id=uuid4().hex,
        )
    )
    return 0


async def register(database_url: str, device_id: str, device_class: str) -> None:
    """Make the device unless it exists; one that exists keeps its class."""
    pool = await open_pool(database_url, name="command", max_size=1)
    try:
        await devices.ensure(pool, device_id, device_class)
    finally:
        await pool.close()
