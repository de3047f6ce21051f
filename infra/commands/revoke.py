"""`fleetwire revoke`: tokens of a device are not good any more, through the API as an operator would."""

import json
from collections.abc import Mapping
from typing import Any, Final

import httpx

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.shown_commands import starting
from shared.clock import wall
from shared.protocol.ids import check_device_id
from shared.settings import load

__all__ = ["run"]

_DEADLINE_S: Final = 15.0


def run(environ: Mapping[str, str], device_id: str, *, token_id: str | None, reason: str) -> int:
    """Print what is revoked as JSON."""
    settings = load(CommandSettings, environ)
    check_device_id(device_id)
    body: dict[str, Any] = {"device_id": device_id}
    if token_id is not None:
        body |= {"token_id": token_id, "reason": reason}
    # Else until now, by the database's clock: the one of this machine may be anywhere.
    try:
        answer = httpx.post(
            f"{settings.need_api_url().rstrip('/')}/api/v1/revocations",
            json=body,
            headers={"Authorization": f"Bearer {_operator_token(settings)}"},
            timeout=_DEADLINE_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise CommandFailed(f"the API cannot be asked: {error}; does `{starting()}` run?") from error
    if answer.status_code >= 400:
        raise CommandFailed(f"the API refused it ({answer.status_code}): {_detail(answer)}")
    print(json.dumps(answer.json()))
    return 0


def _operator_token(settings: CommandSettings) -> str:
    if settings.token is not None:
        return settings.token
    return settings.need_signing_keys().mint(
        subject="fleetwire-revoke", scopes=frozenset({"operator"}), now=wall(), lifetime_s=60.0
    )


def _detail(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(problem.get("detail") or problem.get("title")) if isinstance(problem, dict) else str(problem)[:300]
