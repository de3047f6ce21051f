"""Who is asking, and may they: bearer tokens, scopes, and the one device that a device token stands for.

Everything is in the token and the key ring, so any instance can answer and nothing is remembered; whether a token was
revoked is asked of Postgres (`RevocationCheck`). A device token
reaches its own device only; another's is refused alike whether or not that device exists.
"""

from api.problems import Problem
from shared.protocol.ids import device_class_problem
from shared.telemetry.metrics import API_TOKENS_REFUSED
from shared.tokens import Claims, InvalidToken, KeyRing, Scope

__all__ = ["authenticate", "refused", "require", "require_own"]


def authenticate(keys: KeyRing, token: str, *, now: float) -> Claims:
    """The claims of a good token. Raises Problem (401) that says what is wrong and never holds the token."""
    try:
        claims = keys.verify(token, now=now)
        if claims.device_class is not None and (problem := device_class_problem(claims.device_class)):
            raise InvalidToken("bad_claims", problem)
    except InvalidToken as error:
        raise refused(error.reason, str(error)) from None
    return claims


def refused(reason: str, detail: str) -> Problem:
    """The Problem (401) for a token that is not accepted."""
    API_TOKENS_REFUSED.labels(reason).inc()
    challenge = "Bearer" if reason == "missing" else 'Bearer error="invalid_token"'
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge}, reason=reason)


def require(claims: Claims, scopes: frozenset[Scope]) -> None:
    """Raises Problem (403) unless the token carries one of the scopes."""
    if not claims.scopes & scopes:
        needed = " or ".join(sorted(scopes))
        raise Problem(
            "forbidden",
            f"this needs a token with the scope {needed}",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{" ".join(sorted(scopes))}"'},
        )


def require_own(claims: Claims, device_id: str, scopes: frozenset[Scope]) -> None:
    """Raises Problem (403) when the only scope that lets the caller in is `device`, and this is another device."""
    if claims.subject == device_id and claims.allows("device"):
        return
    if not (claims.scopes & scopes) - {"device"}:
        raise Problem("forbidden", "a device's token reaches that device only")
