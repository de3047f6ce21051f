"""Signed sessions of the operators' page: a cookie that says what a token said, and a second secret against forged
requests [pure].

Nothing of a session is kept here, so any instance answers any request of it. The cookie names the token it was made
from: what revokes that token, or retires its key, ends the session. Scripts never see the cookie; they are told the
CSRF token, which follows from the cookie, and send it back with whatever changes something.
"""

import base64
import binascii
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from shared.tokens import Claims

__all__ = ["COOKIE_MAX_LENGTH", "InvalidSession", "Session", "Sessions"]

COOKIE_MAX_LENGTH: Final = 2048
_LABEL: Final = b"fleetwire dashboard session"
_CSRF: Final = b"fleetwire dashboard csrf"
_MAC_BYTES: Final = 32


class InvalidSession(ValueError):
    """The cookie is no session that counts: sign in again."""


@dataclass(frozen=True, slots=True)
class Session:
    """Who signed in, by which token, until when. `ends_at` is the last moment that it can be prolonged to."""

    subject: str
    key_id: str
    token_id: str | None
    issued_at: float | None
    expires_at: float
    ends_at: float
    nonce: str

    @property
    def claims(self) -> Claims:
        """What the session may do: what operators may, and nothing else that its token allowed."""
        return Claims(
            subject=self.subject,
            scopes=frozenset({"operator"}),
            device_class=None,
            expires_at=self.expires_at,
            key_id=self.key_id,
            token_id=self.token_id,
            issued_at=self.issued_at,
        )


class Sessions:
    """Makes and reads cookies. Every secret of the set verifies, the last one signs.

    A session lasts `lifetime_s`, and is prolonged while it is used, for at most `longest_s` or as long as its token.
    """

    def __init__(self, keys: Mapping[str, bytes], *, lifetime_s: float, longest_s: float) -> None:
        """`keys` are the secrets that sign file addresses, too; ours are derived from those that it then holds."""
        self._secrets = keys
        self._lifetime_s = lifetime_s
        self._longest_s = longest_s

    def __repr__(self) -> str:
        return f"Sessions({len(self._secrets)} keys, {self._lifetime_s:g} s)"

    def begin(self, claims: Claims, nonce: str, now: float) -> Session:
        """A session for whoever showed this token; `nonce` is random."""
        ends_at = min(claims.expires_at, now + self._longest_s)
        return Session(
            subject=claims.subject,
            key_id=claims.key_id,
            token_id=claims.token_id,
            issued_at=claims.issued_at,
            expires_at=min(ends_at, now + self._lifetime_s),
            ends_at=ends_at,
            nonce=nonce,
        )

    def prolonged(self, session: Session, now: float) -> Session | None:
        """The session with more time, when a good part of what it had is over and more may be given."""
        later = min(session.ends_at, now + self._lifetime_s)
        if later - session.expires_at < self._lifetime_s / 4:
            return None
        return replace(session, expires_at=later)

    def cookie(self, session: Session) -> str:
        """The session as the value of a cookie."""
        said = {
            "s": session.subject,
            "k": session.key_id,
            "t": session.token_id,
            "i": session.issued_at,
            "e": session.expires_at,
            "u": session.ends_at,
            "n": session.nonce,
        }
        payload = json.dumps(said, separators=(",", ":")).encode()
        mac = hmac.digest(self._keys(_LABEL)[-1], payload, "sha256")
        return base64.urlsafe_b64encode(mac + payload).rstrip(b"=").decode("ascii")

    def read(self, cookie: str, now: float) -> Session:
        """The session of a cookie that was made here. Raises InvalidSession."""
        if len(cookie) > COOKIE_MAX_LENGTH:
            raise InvalidSession("the session is not one of ours")
        try:
            raw = base64.b64decode(cookie.encode("ascii") + b"=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            raise InvalidSession("the session is not one of ours") from None
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        good = [hmac.compare_digest(mac, hmac.digest(key, payload, "sha256")) for key in self._keys(_LABEL)]
        if not any(good):
            raise InvalidSession("the session is not one of ours")
        session = _session(json.loads(payload))
        if now >= session.expires_at:
            raise InvalidSession("the session is over")
        return session

    def csrf(self, session: Session) -> str:
        """What requests of this session that change something must bring."""
        return hmac.digest(self._keys(_CSRF)[-1], session.nonce.encode(), "sha256").hex()

    def is_csrf(self, session: Session, given: str) -> bool:
        """Whether that is what was brought."""
        wanted = [hmac.digest(key, session.nonce.encode(), "sha256").hex() for key in self._keys(_CSRF)]
        return any(hmac.compare_digest(given.encode(errors="replace"), one.encode()) for one in wanted)

    def _keys(self, label: bytes) -> list[bytes]:
        return [hmac.digest(secret, label, "sha256") for secret in self._secrets.values()]


def _session(said: dict[str, Any]) -> Session:
    """Of a payload whose signature holds."""
    try:
        return Session(said["s"], said["k"], said["t"], said["i"], float(said["e"]), float(said["u"]), said["n"])
    except (KeyError, TypeError):
        raise InvalidSession("the session is of another version: sign in again") from None
