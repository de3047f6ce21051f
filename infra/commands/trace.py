"""`fleetwire trace`: the waterfall of one file, job or event, and where it is now, through the API."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote
from uuid import UUID

from infra.command_settings import CommandSettings
from infra.commands.api_call import ApiCalls
from infra.commands.errors import CommandFailed
from shared.settings import load

__all__ = ["run", "waterfall"]

_WIDTH: Final = 40


def run(environ: Mapping[str, str], what: str, *, device_id: str | None, as_json: bool) -> int:
    """A job by its id; of a device an event by its id, or the newest job of a file by its name. 3: it is stuck."""
    path, asked = _path(what, device_id)
    with ApiCalls(load(CommandSettings, environ), subject="fleetwire-trace", scope="operator") as calls:
        found = calls.get(path, **asked)
    print(json.dumps(found) if as_json else waterfall(found))
    return 3 if found["at"]["stuck"] else 0


def _path(what: str, device_id: str | None) -> tuple[str, dict[str, str]]:
    if device_id is not None:
        return f"/api/v1/devices/{quote(device_id, safe='')}/trace", {"of": what}
    if _is_uuid(what):
        return f"/api/v1/jobs/{UUID(what)}/trace", {}
    raise CommandFailed(f"{what!r} is not the id of a job; for an event or a file say --device too")


def _is_uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def waterfall(found: Mapping[str, Any]) -> str:
    """One line for each stage: milliseconds since the first, since the one before, a bar; then where it is now."""
    title = f"{found['device_id']}  {found['name'] or found['event_id']}"
    lines = [title + (f"  trace {found['trace_id']}" if found["trace_id"] else "")]
    stages, at = found["stages"], found["at"]
    times = [datetime.fromisoformat(stage["at"]).timestamp() for stage in stages]
    longest = max(times[-1] - times[0], 0.001) if times else 1.0
    for stage, moment in zip(stages, times, strict=True):
        lag = stage["lag_s"]
        start, length = round((moment - lag - times[0]) / longest * _WIDTH), round(lag / longest * _WIDTH)
        bar = " " * max(start, 0) + ("█" * length or "▏")
        by = "" if stage["exact"] else "  (by then)"
        ms = f"{(moment - times[0]) * 1000:10.1f} ms  {f'+{lag * 1000:.1f}':>11}"
        lines.append(f"  {stage['stage']:<12} {ms}  {bar}{by}")
    held = f", held by {at['holder']}" if at["holder"] else ""
    lines.append(f"  now: {at['place']} since {at['since']} ({at['for_s']:.1f} s){held}")
    if at["stuck"]:
        lines.append(f"  STUCK: {at['stuck']}")
    return "\n".join(lines)
