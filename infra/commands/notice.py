"""`fleetwire notice`: something ephemeral for all connected devices or one class, through the API."""

import json
from collections.abc import Mapping
from typing import Any

import httpx

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.commands.publish import DEADLINE_S, json_object, service_token, what_is_wrong
from infra.shown_commands import starting
from shared.settings import load

__all__ = ["run"]


def run(environ: Mapping[str, str], data: str, *, device_class: str | None, notice_id: str | None) -> int:
    """Print the notice's id as JSON. Whom it reaches, nobody knows."""
    settings = load(CommandSettings, environ)
    body: dict[str, Any] = {"data": json_object(data)}
    if device_class is not None:
        body["class"] = device_class
    if notice_id is not None:
        body["id"] = notice_id
    try:
        answer = httpx.post(
            f"{settings.need_api_url().rstrip('/')}/api/v1/notices",
            json=body,
            headers={"Authorization": f"Bearer {service_token(settings)}"},
            timeout=DEADLINE_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise CommandFailed(f"the API cannot be asked: {error}; does `{starting()}` run?") from error
    if answer.status_code >= 400:
        raise CommandFailed(f"the API refused it ({answer.status_code}): {what_is_wrong(answer)}")
    print(json.dumps(answer.json()))
    return 0
