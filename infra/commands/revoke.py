"""`fleetwire revoke`: tokens of a device are not good any more, through the API as an operator would."""

import json
from collections.abc import Mapping
from typing import Any

from infra.command_settings import CommandSettings
from infra.commands.api_call import post
from shared.protocol.ids import check_device_id
from shared.settings import load

__all__ = ["run"]


def run(environ: Mapping[str, str], device_id: str, *, token_id: str | None, reason: str) -> int:
    """Print what is revoked as JSON."""
    settings = load(CommandSettings, environ)
    check_device_id(device_id)
    body: dict[str, Any] = {"device_id": device_id}
    if token_id is not None:
        body |= {"token_id": token_id, "reason": reason}
    # Else until now, by the database's clock: the one of this machine may be anywhere.
    print(json.dumps(post(settings, "/api/v1/revocations", body, subject="fleetwire-revoke", scope="operator")))
    return 0
