"""Calls to the API, as the commands make them: with the token that is set, or one made for this command."""

from time import sleep
from types import TracebackType
from typing import Any, Final

import httpx

from infra.command_settings import CommandSettings
from infra.commands.errors import CommandFailed
from infra.shown_commands import starting
from shared.clock import wall
from shared.tokens import Scope

__all__ = ["ApiCalls", "ApiRefused", "post"]

_DEADLINE_S: Final = 15.0
_TOKEN_S: Final = 60.0
_TRIES: Final = 5
_WAIT_MAX_S: Final = 10.0


class ApiRefused(CommandFailed):
    """The API answered with a problem; `status` is its number."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(f"the API refused it ({status}): {detail}")
        self.status = status
        self.detail = detail


class ApiCalls:
    """Several calls over one connection. What is over a limit is asked again when the API says, a few times."""

    def __init__(self, settings: CommandSettings, *, subject: str, scope: Scope) -> None:
        self._settings = settings
        self._subject = subject
        self._scope = scope
        self._minted: tuple[str, float] | None = None
        self._client = httpx.Client(base_url=settings.need_api_url().rstrip("/"), timeout=_DEADLINE_S, trust_env=False)

    def __enter__(self) -> "ApiCalls":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str, **query: Any) -> Any:
        """The answer as JSON values. Raises CommandFailed when there is none, ApiRefused when the API refuses."""
        return self._call("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """As `get`."""
        return self._call("POST", path, **({} if body is None else {"json": body}))

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """As `get`."""
        return self._call("PUT", path, json=body)

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """As `get`."""
        return self._call("PATCH", path, json=body)

    def delete(self, path: str) -> None:
        """As `get`, with no answer."""
        self._call("DELETE", path)

    def _call(self, method: str, path: str, **how: Any) -> Any:
        answer = self._request(method, path, how)
        for _ in range(_TRIES):
            if answer.status_code not in (429, 503) or (wait := _retry_after(answer)) is None:
                break
            sleep(wait)
            answer = self._request(method, path, how)
        if answer.status_code >= 400:
            raise ApiRefused(answer.status_code, _what_is_wrong(answer))
        return answer.json() if answer.content else None

    def _request(self, method: str, path: str, how: dict[str, Any]) -> httpx.Response:
        try:
            return self._client.request(method, path, headers={"Authorization": f"Bearer {self._token()}"}, **how)
        except httpx.HTTPError as error:
            raise CommandFailed(f"the API cannot be asked: {error}; does `{starting()}` run?") from error

    def _token(self) -> str:
        if self._settings.token is not None:
            return self._settings.token
        now = wall()
        if self._minted is None or self._minted[1] < now:
            token = self._settings.need_signing_keys().mint(
                subject=self._subject, scopes=frozenset({self._scope}), now=now, lifetime_s=_TOKEN_S
            )
            self._minted = token, now + _TOKEN_S / 2
        return self._minted[0]


def post(settings: CommandSettings, path: str, body: dict[str, Any], *, subject: str, scope: Scope) -> Any:
    """One call. The answer as JSON values. Raises CommandFailed when there is none, or the API refuses."""
    with ApiCalls(settings, subject=subject, scope=scope) as calls:
        return calls.post(path, body)


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds that the API asks for; None when it does not, or for longer than a person waits."""
    try:
        wait = float(answer.headers["Retry-After"])
    except (KeyError, ValueError):
        return None
    return max(0.1, wait) if wait <= _WAIT_MAX_S else None


def _what_is_wrong(answer: httpx.Response) -> str:
    """The sentence of a problem."""
    try:
        problem = answer.json()
    except ValueError:
        return answer.text[:300]
    return str(problem.get("detail") or problem.get("title")) if isinstance(problem, dict) else str(problem)[:300]
