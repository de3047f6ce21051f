"""`fleetwire schedules …`: what makes jobs by the clock, through the API."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from infra.command_settings import CommandSettings
from infra.commands.api_call import ApiCalls
from infra.commands.errors import CommandFailed
from shared.settings import load

__all__ = ["add", "ls", "remove", "switch"]

_PATH = "/api/v1/schedules"


def ls(environ: Mapping[str, str], *, as_json: bool) -> int:
    """All of them by name."""
    with _calls(environ) as calls:
        found = calls.get(_PATH)["schedules"]
    if as_json:
        print(json.dumps({"schedules": found}))
    else:
        Console().print(_table(found))
    return 0


def add(
    environ: Mapping[str, str],
    name: str,
    *,
    cron: str | None,
    every_s: int | None,
    timezone: str,
    devices: Sequence[str],
    kind: str,
    request: str,
    data: str | None,
    file: Path | None,
    priority: int | None,
) -> int:
    """Make one, or replace the one of that name."""
    if (data is None) == (file is None):
        raise CommandFailed("say what the request holds: --data TEXT or --file PATH")
    if file is not None:
        try:
            data = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CommandFailed(f"{file} cannot be read as text: {error}") from error
    body: dict[str, Any] = {
        "cron": cron,
        "every_s": every_s,
        "timezone": timezone,
        "device_ids": list(devices),
        "kind": kind,
        "name": request,
        "data": data,
        "priority": priority,
    }
    with _calls(environ) as calls:
        made = calls.put(f"{_PATH}/{name}", {key: value for key, value in body.items() if value is not None})
    print(json.dumps({"schedule": made["schedule"], "next_at": made["next_at"]}))
    return 0


def switch(environ: Mapping[str, str], name: str, *, enabled: bool) -> int:
    """Pause one, or let it go on."""
    with _calls(environ) as calls:
        now = calls.patch(f"{_PATH}/{name}", {"enabled": enabled})
    print(json.dumps({"schedule": name, "enabled": now["enabled"], "next_at": now["next_at"]}))
    return 0


def remove(environ: Mapping[str, str], names: Sequence[str]) -> int:
    """Forget some. Their jobs stay."""
    with _calls(environ) as calls:
        for name in names:
            calls.delete(f"{_PATH}/{name}")
            print(f"{name} removed", file=sys.stderr)
    return 0


def _table(found: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(Column("schedule", no_wrap=True), "when", "devices", "kind", "next", "last")
    for one in found:
        when = f"{one['cron']} {one['timezone']}" if one["cron"] else f"every {one['every_s']} s"
        devices = one["device_ids"][0] if len(one["device_ids"]) == 1 else f"{len(one['device_ids']):,} devices"
        following = one["next_at"][:19] if one["next_at"] else "paused"
        table.add_row(one["schedule"], when, devices, one["kind"], following, (one["fired_at"] or "")[:19])
    if not found:
        table.caption = "no schedules"
    return table


def _calls(environ: Mapping[str, str]) -> ApiCalls:
    return ApiCalls(load(CommandSettings, environ), subject="fleetwire-schedules", scope="operator")
