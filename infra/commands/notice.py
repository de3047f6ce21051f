"""`fleetwire notice`: something ephemeral for all connected devices or one class, through the API."""

import json
from collections.abc import Mapping
from typing import Any

from infra.command_settings import CommandSettings
from infra.commands.api_call import post
from infra.commands.publish import SUBJECT, json_object
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
    print(json.dumps(post(settings, "/api/v1/notices", body, subject=SUBJECT, scope="service")))
    return 0
