"""Tokens of an application at Entra (client credentials): proven by a secret or by a certificate.

One token serves all calls until five minutes before its end; one call fetches the next while the others wait for it,
and while the old one lives a failure to get a new one harms nobody. A token that Graph refuses is forgotten.
"""

import asyncio
import base64
import hashlib
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote, urlencode

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from shared import clock
from shared.cloud.errors import Misconfigured, RateLimited, StoreUnavailable
from shared.cloud.graph.wire import TokenAnswer
from shared.cloud.http import HttpClient, Request

__all__ = ["AppTokens", "Certificate", "Proof", "Secret"]

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_ASSERTION_S: Final = 300
_SKEW_S: Final = 60
_EARLY_S: Final = 300.0
_LIFETIME_MAX_S: Final = 86_400


class Proof(Protocol):
    """How the application shows that it is itself."""

    def form(self, client_id: str, address: str, now: float) -> Mapping[str, str]:
        """Fields of the request for a token."""
        ...


class Secret:
    """By a secret that Entra made."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def form(self, client_id: str, address: str, now: float) -> Mapping[str, str]:
        """See Proof."""
        return {"client_secret": self._secret}


class Certificate:
    """By a signature whose public part was given to Entra: the secret never leaves this machine."""

    def __init__(self, key: RSAPrivateKey, thumbprint: bytes) -> None:
        self._key = key
        self._thumbprint = base64.urlsafe_b64encode(thumbprint).decode("ascii").rstrip("=")

    @classmethod
    def read(cls, path: Path) -> "Certificate":
        """Certificate and private key out of one PEM file. Raises Misconfigured."""
        setting = f"FLEETWIRE_GRAPH_CERTIFICATE_FILE={path}"
        try:
            pem = path.read_bytes()
        except OSError as error:
            raise Misconfigured(f"{setting}: {error.strerror}") from None
        try:
            certificate = x509.load_pem_x509_certificate(pem)
            key = load_pem_private_key(pem, None)
        except (ValueError, TypeError) as error:
            raise Misconfigured(
                f"{setting}: not a certificate and its private key in PEM, without a password ({type(error).__name__})"
            ) from None
        if not isinstance(key, RSAPrivateKey):
            raise Misconfigured(f"{setting}: its key is not RSA")
        if key.public_key() != certificate.public_key():
            raise Misconfigured(f"{setting}: its key is not that of its certificate")
        return cls(key, hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest())

    def form(self, client_id: str, address: str, now: float) -> Mapping[str, str]:
        """See Proof."""
        claims = {
            "aud": address,
            "iss": client_id,
            "sub": client_id,
            "jti": str(uuid.uuid4()),
            "nbf": int(now) - _SKEW_S,
            "exp": int(now) + _ASSERTION_S,
        }
        assertion = jwt.encode(claims, self._key, algorithm="PS256", headers={"x5t#S256": self._thumbprint})
        return {"client_assertion_type": _ASSERTION_TYPE, "client_assertion": assertion}


class AppTokens:
    """The token of one application in one tenant. `headers()` before every try of a call."""

    def __init__(
        self,
        http: HttpClient,
        *,
        login_url: str,
        tenant: str,
        client_id: str,
        proof: Proof,
        scope: str,
        store: str = "sharepoint",
        time: Callable[[], float] = clock.monotonic,
        wall: Callable[[], float] = clock.wall,
    ) -> None:
        self._http = http
        self._address = f"{login_url.rstrip('/')}/{quote(tenant, safe='')}/oauth2/v2.0/token"
        self._client_id = client_id
        self._proof = proof
        self._scope = scope
        self._store = store
        self._time = time
        self._wall = wall
        self._token: str | None = None
        self._ends = 0.0
        self._renew_at = 0.0
        self._asking = asyncio.Lock()

    def __repr__(self) -> str:
        left = self._ends - self._time()
        return f"AppTokens({self._client_id}, {f'{left:.0f} s left' if self._token else 'no token'})"

    async def headers(self) -> Mapping[str, str]:
        """The header that shows the token. Raises Misconfigured, StoreUnavailable."""
        if self._token is None or self._time() >= self._renew_at:
            async with self._asking:
                if self._token is None or self._time() >= self._renew_at:
                    await self._renew()
        return {"Authorization": f"Bearer {self._token}"}

    def forget(self, shown: str | None) -> None:
        """A token was refused: it is not shown again. Another that came meanwhile stays."""
        if shown is not None and shown == f"Bearer {self._token}":
            self._token = None

    async def _renew(self) -> None:
        asked_at = self._time()
        try:
            answer = await self._ask()
        except StoreUnavailable:
            if self._token is None or self._time() >= self._ends:
                raise
            self._renew_at = self._time() + min(30.0, (self._ends - self._time()) / 2)
            return
        lifetime_s = min(max(answer.expires_in, 1), _LIFETIME_MAX_S)
        self._token = answer.access_token
        self._ends = asked_at + lifetime_s
        self._renew_at = self._ends - min(_EARLY_S, lifetime_s / 2)

    async def _ask(self) -> TokenAnswer:
        form = {"grant_type": "client_credentials", "client_id": self._client_id, "scope": self._scope}
        form |= self._proof.form(self._client_id, self._address, self._wall())
        request = Request(
            store=self._store,
            call="token",
            method="POST",
            url=self._address,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode("ascii"),
            repeatable=True,
        )
        answer = await self._http.ask(request)
        if answer.status == 200:
            return answer.decoded(TokenAnswer, store=self._store)
        if answer.status == 429:
            raise RateLimited(f"{self._store}: no token now: answered 429", retry_after_s=answer.retry_after_s or 5.0)
        if 400 <= answer.status < 500:
            raise Misconfigured(
                f"{self._store}: no token for the application: answered {answer.status} ({_refusal(answer.body)}); "
                "look at FLEETWIRE_GRAPH_TENANT, _CLIENT_ID and the secret or certificate"
            )
        raise StoreUnavailable(f"{self._store}: no token for the application: answered {answer.status}")


def _refusal(body: bytes) -> str:
    """Entra's number for what is wrong; its text may quote what was sent."""
    at = body.find(b"AADSTS")
    found = body[at : at + 16].split(b":")[0] if at >= 0 else b"no reason said"
    return found.decode("ascii", "replace")
