"""`fleetwire publish`: one event for one device, through the API as any other system would."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from infra.command_settings import CommandSettings
from infra.commands.api_call import post
from infra.commands.errors import CommandFailed
from infra.shown_commands import shown
from shared.protocol.ids import check_device_id
from shared.settings import load

__all__ = ["SUBJECT", "json_object", "run"]

SUBJECT: Final = "fleetwire-publish"


def run(environ: Mapping[str, str], device_id: str, data: str, *, event_type: str, key: str | None) -> int:
    """Print what became of it as JSON; 0 when it is recorded now or was before."""
    settings = load(CommandSettings, environ)
    check_device_id(device_id)
    item: dict[str, Any] = {"device_id": device_id, "type": event_type, "data": json_object(data)}
    if key is not None:
        item["key"] = key
    answer = post(settings, "/api/v1/events", {"events": [item]}, subject=SUBJECT, scope="service")
    result = answer["results"][0]
    print(json.dumps(result))
    status = result.get("status")
    if status in ("recorded", "duplicate"):
        return 0
    print(f"fleetwire: not published: {_mend(status, result, device_id)}", file=sys.stderr)
    return 1


def _mend(status: object, result: dict[str, Any], device_id: str) -> str:
    match status:
        case "unknown_device":
            return f"nobody registered {device_id}; `{shown(f'token --device {device_id}')}` does"
        case "conflict":
            return "another event was published with this --key before; take another key, or none"
        case _:
            return str(result.get("detail") or status)


def json_object(text: str) -> dict[str, Any]:
    """What the person gave as data. Raises CommandFailed."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise CommandFailed(f"DATA is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CommandFailed('DATA must be a JSON object, for example \'{"note": "hello"}\'')
    return value
