"""Tokens of a service account: asked for with an assertion that its key signed, kept until shortly before they end.

One request for all who wait. The key and the tokens appear in no repr, log or error.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shared import clock
from shared.cloud.drive import wire
from shared.cloud.drive.errors import reason_of
from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.http import HttpClient, Request

__all__ = ["ServiceKey", "Tokens", "read_key"]

SCOPE: Final = "https://www.googleapis.com/auth/drive"
_GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_LIFETIME_S: Final = 3600
_EARLY_S: Final = 120.0
_KEY_FILE_MAX: Final = 64 * 1024
_ADDRESS: Final = re.compile(r"[^@\s]{1,200}@[^@\s]{1,200}")


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """What the key file holds of use."""

    email: str
    key_id: str
    token_url: str
    key: RSAPrivateKey = field(repr=False)


def read_key(path: Path) -> ServiceKey:
    """The service account's key file, as Google's console hands it out. Raises Misconfigured."""
    setting = f"FLEETWIRE_DRIVE_KEY_FILE={path}"
    try:
        with path.open("rb") as file:
            content = file.read(_KEY_FILE_MAX + 1)
    except OSError as error:
        raise Misconfigured(f"{setting}: {error.strerror}; name the JSON key of the service account") from None
    try:
        said: Any = json.loads(content) if len(content) <= _KEY_FILE_MAX else None
    except ValueError:
        said = None
    if not isinstance(said, dict) or said.get("type") != "service_account":
        raise Misconfigured(f"{setting}: not the JSON key of a service account")
    texts = [said.get(name) for name in ("client_email", "private_key_id", "token_uri", "private_key")]
    if not all(isinstance(one, str) and one for one in texts):
        raise Misconfigured(f"{setting}: client_email, private_key_id, token_uri or private_key is missing")
    email, key_id, token_url, pem = (str(one) for one in texts)
    if _ADDRESS.fullmatch(email) is None:
        raise Misconfigured(f"{setting}: client_email is no address")
    target = urlsplit(token_url)
    is_local = target.scheme == "http" and target.hostname in ("127.0.0.1", "localhost", "::1")
    if not target.hostname or (target.scheme != "https" and not is_local):
        raise Misconfigured(f"{setting}: token_uri is no https address")
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError):
        raise Misconfigured(f"{setting}: private_key cannot be read") from None
    if not isinstance(key, RSAPrivateKey):
        raise Misconfigured(f"{setting}: private_key is no RSA key")
    return ServiceKey(email, key_id, token_url, key)


class Tokens:
    """The account's token of the moment."""

    def __init__(
        self,
        http: HttpClient,
        key: ServiceKey,
        *,
        store: str,
        wall: Callable[[], float] = clock.wall,
        monotonic: Callable[[], float] = clock.monotonic,
    ) -> None:
        self._http = http
        self._key = key
        self._store = store
        self._wall = wall
        self._monotonic = monotonic
        self._one_asks = asyncio.Lock()
        self._token: str | None = None
        self._good_until = 0.0

    def __repr__(self) -> str:
        return f"Tokens({self._key.email}, for {self._good_until - self._monotonic():.0f} s)"

    async def headers(self) -> Mapping[str, str]:
        """The header that goes with a request. Raises Misconfigured, StoreUnavailable."""
        if self._token is None or self._monotonic() >= self._good_until:
            async with self._one_asks:
                if self._token is None or self._monotonic() >= self._good_until:
                    await self._ask()
        return {"Authorization": f"Bearer {self._token}"}

    def forget(self, headers: Mapping[str, str]) -> None:
        """The provider refused this one; whoever found out later, too, does not take the next one away."""
        if headers.get("Authorization") == f"Bearer {self._token}":
            self._token = None

    async def _ask(self) -> None:
        now = int(self._wall())
        claims = {
            "iss": self._key.email,
            "scope": SCOPE,
            "aud": self._key.token_url,
            "iat": now,
            "exp": now + _LIFETIME_S,
        }
        assertion = jwt.encode(claims, self._key.key, algorithm="RS256", headers={"kid": self._key.key_id})
        began = self._monotonic()
        answer = await self._http.ask(
            Request(
                store=self._store,
                call="token",
                method="POST",
                url=self._key.token_url,
                headers={"Content-Type": "application/x-www-form-urlencoded"},
                body=urlencode({"grant_type": _GRANT, "assertion": assertion}).encode(),
                repeatable=True,
            )
        )
        if answer.status in (400, 401, 403):
            reason = reason_of(answer)[0]
            hint = "is the machine's clock right, and the key still there?" if reason == "invalid_grant" else "see it"
            raise Misconfigured(
                f"{self._store}: no token for {self._key.email} ({reason[:60] or answer.status}); {hint}"
            )
        if answer.status != 200:
            raise StoreUnavailable(f"{self._store}: the token endpoint answered {answer.status}")
        token = answer.decoded(wire.Token, store=self._store)
        if not token.access_token.isascii() or not token.access_token.isprintable() or " " in token.access_token:
            raise StoreUnavailable(f"{self._store}: the token endpoint answered with something else")
        self._token = token.access_token
        self._good_until = began + max(token.expires_in - _EARLY_S, token.expires_in / 2)
