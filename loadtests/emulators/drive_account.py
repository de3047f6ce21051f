"""The service account of an emulated Google Drive: its key file, and the tokens it gets for what it signed."""

import json
import secrets
from functools import cache
from pathlib import Path
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from loadtests.emulators.clock import EmulatedClock

__all__ = ["ServiceAccount"]

GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPES: Final = frozenset(f"https://www.googleapis.com/auth/drive{one}" for one in ("", ".readonly", ".file"))


@cache
def _key() -> rsa.RSAPrivateKey:
    """One for the whole process: making it takes longer than most tests."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class ServiceAccount:
    """One account. `lifetime_s` is how long its tokens live, by the emulated clock."""

    def __init__(self, clock: EmulatedClock, *, lifetime_s: float = 3599.0) -> None:
        self.email = "fleet@emulated-project.iam.gserviceaccount.com"
        self.lifetime_s = lifetime_s
        self.tokens: dict[str, float] = {}
        self.given = 0
        self._clock = clock
        self._key_id = secrets.token_hex(20)
        self._key = _key()

    def key_file(self, token_url: str) -> dict[str, str]:
        """What Google's console hands out for download."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": "emulated-project",
            "private_key_id": self._key_id,
            "private_key": pem.decode(),
            "client_email": self.email,
            "client_id": "100000000000000000001",
            "token_uri": token_url,
            "universe_domain": "googleapis.com",
        }

    def write_key_file(self, path: Path, token_url: str) -> Path:
        """The same, where a setting can name it."""
        path.write_text(json.dumps(self.key_file(token_url)))
        path.chmod(0o600)
        return path

    def grant(self, form: dict[str, str], token_url: str) -> tuple[int, dict[str, Any]]:
        """The answer of the token endpoint."""
        if form.get("grant_type") != GRANT:
            return 400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type"}
        try:
            header = jwt.get_unverified_header(form.get("assertion", ""))
            claims = jwt.decode(
                form.get("assertion", ""),
                self._key.public_key(),
                algorithms=["RS256"],
                # Google's own library names the place it knows, wherever the key file sends it.
                audience=[token_url, "https://oauth2.googleapis.com/token"],
                issuer=self.email,
                options={"verify_exp": False, "verify_iat": False, "require": ["iat", "exp", "aud", "iss"]},
            )
        except jwt.PyJWTError as error:
            return 400, {"error": "invalid_grant", "error_description": f"Invalid JWT: {error}"}
        now = self._clock.now()
        in_time = claims["iat"] <= now + 300 and now - 300 <= claims["exp"] <= claims["iat"] + 3600
        if header.get("kid") not in (None, self._key_id) or not in_time:
            return 400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature or time"}
        if not set(str(claims.get("scope", "")).split()) & _SCOPES:
            return 400, {"error": "invalid_scope", "error_description": "Empty or missing scope not allowed."}
        token = "ya29." + secrets.token_urlsafe(64)
        self.tokens[token] = now + self.lifetime_s
        self.given += 1
        return 200, {"access_token": token, "expires_in": int(self.lifetime_s), "token_type": "Bearer"}

    def admits(self, authorization: str) -> bool:
        """Whether a request's Authorization header is good now."""
        kind, _, token = authorization.partition(" ")
        return kind.lower() == "bearer" and self.tokens.get(token, 0.0) > self._clock.now()

    def revoke_tokens(self) -> None:
        """Every token that was given out is worthless now."""
        self.tokens.clear()
