"""`fleetwire publish`: one event for one device, through the API as any other system would."""

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

import httpx

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.shown_commands import shown, starting
from shared.clock import wall
from shared.protocol.ids import check_device_id
from shared.settings import load

__all__ = ["DEADLINE_S", "json_object", "run", "service_token", "what_is_wrong"]

DEADLINE_S: Final = 15.0


def run(environ: Mapping[str, str], device_id: str, data: str, *, event_type: str, key: str | None) -> int:
    """Print what became of it as JSON; 0 when it is recorded now or was before."""
    settings = load(CommandSettings, environ)
    check_device_id(device_id)
    item: dict[str, Any] = {"device_id": device_id, "type": event_type, "data": json_object(data)}
    if key is not None:
        item["key"] = key
    headers = {"Authorization": f"Bearer {service_token(settings)}"}
    try:
        answer = httpx.post(
            f"{settings.need_api_url().rstrip('/')}/api/v1/events",
            json={"events": [item]},
            headers=headers,
            timeout=DEADLINE_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise CommandFailed(f"the API cannot be asked: {error}; does `{starting()}` run?") from error
    if answer.status_code >= 400:
        raise CommandFailed(f"the API refused it ({answer.status_code}): {what_is_wrong(answer)}")
    result = answer.json()["results"][0]
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


def service_token(settings: CommandSettings) -> str:
    """The token that is set, else one made for this call."""
    if settings.token is not None:
        return settings.token
    return settings.need_signing_keys().mint(
        subject="fleetwire-publish", scopes=frozenset({"service"}), now=wall(), lifetime_s=60.0
    )


def what_is_wrong(answer: httpx.Response) -> str:
    """The sentence of a problem."""
    try:
        problem = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(problem.get("detail") or problem.get("title")) if isinstance(problem, dict) else str(problem)[:300]
