"""One call to the API, as the commands make it: with the token that is set, or one made for this call."""

from typing import Any, Final

import httpx

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.shown_commands import starting
from shared.clock import wall
from shared.tokens import Scope

__all__ = ["post"]

_DEADLINE_S: Final = 15.0


def post(settings: CommandSettings, path: str, body: dict[str, Any], *, subject: str, scope: Scope) -> Any:
    """The answer as JSON values. Raises CommandFailed when there is none, or the API refuses."""
    token = settings.token
    if token is None:
        token = settings.need_signing_keys().mint(
            subject=subject, scopes=frozenset({scope}), now=wall(), lifetime_s=60.0
        )
    try:
        answer = httpx.post(
            f"{settings.need_api_url().rstrip('/')}{path}",
            json=body,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_DEADLINE_S,
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise CommandFailed(f"the API cannot be asked: {error}; does `{starting()}` run?") from error
    if answer.status_code >= 400:
        raise CommandFailed(f"the API refused it ({answer.status_code}): {_what_is_wrong(answer)}")
    return answer.json()


def _what_is_wrong(answer: httpx.Response) -> str:
    """The sentence of a problem."""
    try:
        problem = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(problem.get("detail") or problem.get("title")) if isinstance(problem, dict) else str(problem)[:300]
