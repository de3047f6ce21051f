"""Requests that bring the session of the operators' page instead of a token.

A session does what operators may do, and its own page alone speaks for it: the cookie goes to this site only
(SameSite), what changes something brings the CSRF token, and where the browser says which site asks, it must be ours.
"""

from collections.abc import Mapping
from typing import Final

from api.auth import refused
from api.dashboard.sessions import InvalidSession, Session, Sessions
from api.dashboard.settings import DashboardSettings
from api.inputs import Headers
from api.problems import Problem
from shared.telemetry.health import is_loopback
from shared.tokens import Claims, KeyRing

__all__ = ["CSRF_HEADER", "SessionCheck", "check_own_site", "session_check"]

CSRF_HEADER: Final = "X-CSRF-Token"
_READS: Final = frozenset({"GET", "HEAD"})
_COOKIE_MAX: Final = 8192


class SessionCheck:
    """`claims()` of a request's session; `session()` is the session itself."""

    def __init__(self, sessions: Sessions, keys: KeyRing, *, secure: bool) -> None:
        """`keys` are those that tokens are signed with; `secure`: the cookie travels by TLS only."""
        self.sessions = sessions
        self._keys = keys
        self.secure = secure
        # The prefix makes browsers refuse it from anywhere but this host, by TLS.
        self.cookie_name = "__Host-fleetwire" if secure else "fleetwire"

    def __repr__(self) -> str:
        return f"SessionCheck({self.sessions!r}, {self.cookie_name})"

    def is_there(self, headers: Headers) -> bool:
        """Whether the request brings a session, good or not."""
        return self._cookie(headers) is not None

    def session(self, headers: Headers, now: float) -> Session:
        """Raises Problem (401)."""
        cookie = self._cookie(headers)
        if cookie is None:
            raise refused("missing", "there is no session: sign in")
        try:
            session = self.sessions.read(cookie, now)
        except InvalidSession as error:
            raise refused("session", str(error)) from None
        if session.key_id not in self._keys.key_ids:
            raise refused("session", "the key of the token that began this session is not accepted any more")
        return session

    def claims(self, method: str, headers: Headers, now: float) -> Claims:
        """What the session may do. Raises Problem (401, 403)."""
        session = self.session(headers, now)
        check_own_site(headers)
        if method not in _READS:
            given = headers.get(CSRF_HEADER.lower().encode(), [])
            if len(given) != 1 or not self.sessions.is_csrf(session, given[0].decode("latin-1")):
                raise Problem("forbidden", f"{CSRF_HEADER} must be the one of this session")
        return session.claims

    def set_cookie(self, session: Session, now: float) -> str:
        """The header field that gives the session to the browser."""
        return self._field(self.sessions.cookie(session), max(1, int(session.expires_at - now)))

    def drop_cookie(self) -> str:
        """The header field that takes it away."""
        return self._field("", 0)

    def _field(self, value: str, max_age_s: int) -> str:
        secure = "; Secure" if self.secure else ""
        return f"{self.cookie_name}={value}; Path=/; Max-Age={max_age_s}; HttpOnly; SameSite=Strict{secure}"

    def _cookie(self, headers: Headers) -> str | None:
        for line in headers.get(b"cookie", []):
            for part in line[:_COOKIE_MAX].decode("latin-1").split(";"):
                name, _, value = part.strip().partition("=")
                if name == self.cookie_name and value:
                    return value
        return None


def session_check(
    settings: DashboardSettings, keys: KeyRing, secrets: Mapping[str, bytes], *, host: str
) -> SessionCheck:
    """As the settings say; `host` is where the API listens, and `secrets` are those that sign file addresses."""
    lifetime_s = settings.dashboard_session_s
    sessions = Sessions(secrets, lifetime_s=lifetime_s, longest_s=12 * lifetime_s)
    is_elsewhere = settings.dashboard_secure == "auto" and not is_loopback(host)
    return SessionCheck(sessions, keys, secure=settings.dashboard_secure == "on" or is_elsewhere)


def check_own_site(headers: Headers) -> None:
    """Raises Problem (403) when a browser says that another site's page asks."""
    said = headers.get(b"sec-fetch-site", [])
    if said:
        is_own = all(value in (b"same-origin", b"none") for value in said)
    else:
        origin, host = headers.get(b"origin", []), headers.get(b"host", [])
        is_own = not origin or (bool(host) and origin[0].partition(b"://")[2] == host[0])
    if not is_own:
        raise Problem("forbidden", "another site's page cannot ask this")
