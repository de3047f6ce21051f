"""Where an emulated Graph gives out its tokens: client credentials, with a secret or an assertion by a certificate."""

import base64
import hashlib
import secrets
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from loadtests.emulators.clock import EmulatedClock

__all__ = ["CLIENT_ID", "CLIENT_SECRET", "TENANT", "Login"]

TENANT: Final = "contoso.example"
CLIENT_ID: Final = "6b9c5d4e-0000-4000-8000-00000000f1ee"
CLIENT_SECRET: Final = "not told to anybody"
_ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_TOKENS_MAX: Final = 1000


class Login:
    """One application of one tenant. `certificate`: the PEM of the public part, when there is one."""

    def __init__(self, clock: EmulatedClock) -> None:
        self._clock = clock
        self._tokens: dict[str, float] = {}
        self._seen: set[str] = set()
        self.certificate: bytes | None = None
        self.lifetime_s = 3599
        self.given = 0

    def admits(self, header: str) -> bool:
        """Whether an Authorization header has a token that lives."""
        scheme, _, token = header.partition(" ")
        return scheme.lower() == "bearer" and self._tokens.get(token, 0.0) > self._clock.now()

    def revoke(self) -> None:
        """No token that was given out is good any more."""
        self._tokens.clear()

    def grant(self, tenant: str, form: dict[str, str], address: str) -> tuple[int, dict[str, Any]]:
        """Status and answer of the token endpoint."""
        if tenant != TENANT:
            return 400, _refusal("invalid_request", "AADSTS90002: Tenant not found.")
        if form.get("grant_type") != "client_credentials":
            return 400, _refusal("unsupported_grant_type", "AADSTS70003: The grant type is not supported.")
        if not form.get("scope", "").endswith("/.default"):
            return 400, _refusal("invalid_scope", "AADSTS70011: The scope must be of the form resource/.default.")
        if form.get("client_id") != CLIENT_ID:
            return 400, _refusal("unauthorized_client", "AADSTS700016: Application was not found in the directory.")
        if "client_assertion" in form:
            if problem := self._problem(form, address):
                return 401, _refusal("invalid_client", f"AADSTS700027: {problem}")
        elif form.get("client_secret") != CLIENT_SECRET:
            return 401, _refusal("invalid_client", "AADSTS7000215: Invalid client secret provided.")
        now = self._clock.now()
        for token in [token for token, end in self._tokens.items() if end <= now][:_TOKENS_MAX]:
            del self._tokens[token]
        token = secrets.token_urlsafe(48)
        self._tokens[token] = now + self.lifetime_s
        self.given += 1
        return 200, {
            "token_type": "Bearer",
            "expires_in": self.lifetime_s,
            "ext_expires_in": self.lifetime_s,
            "access_token": token,
        }

    def _problem(self, form: dict[str, str], address: str) -> str | None:
        if self.certificate is None or form.get("client_assertion_type") != _ASSERTION:
            return "The certificate is not registered."
        certificate = x509.load_pem_x509_certificate(self.certificate)
        try:
            head = jwt.get_unverified_header(form["client_assertion"])
            thumbprint = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
            if head.get("x5t#S256") != base64.urlsafe_b64encode(thumbprint).decode().rstrip("="):
                return "The key was not found by its thumbprint."
            claims = jwt.decode(
                form["client_assertion"],
                certificate.public_key(),  # type: ignore[arg-type]
                algorithms=["PS256"],
                audience=address,
                options={"require": ["exp", "nbf", "jti", "iss", "sub"], "verify_exp": False, "verify_nbf": False},
            )
        except jwt.PyJWTError as error:
            return f"Client assertion failed signature validation: {error}"
        now = self._clock.now()
        if not claims["nbf"] - 300 <= now < claims["exp"] + 300 or claims["exp"] - claims["nbf"] > 3600:
            return "Client assertion is not within its valid time range."
        if claims["iss"] != CLIENT_ID or claims["sub"] != CLIENT_ID or claims["jti"] in self._seen:
            return "Client assertion contains an invalid or repeated claim."
        self._seen.add(claims["jti"])
        return None


def _refusal(error: str, description: str) -> dict[str, Any]:
    return {"error": error, "error_description": description, "error_codes": []}
