"""The keys of a set-up on one machine: made once, private ones for who signs, public ones for who only verifies.

Three sets, as every installation has them: bearer tokens, socket tickets, signed file URLs.
"""

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from infra.onebox.home import Home

__all__ = ["KeyFiles", "development_keys"]

_FILES_SECRET_BYTES: Final = 48


@dataclass(frozen=True)
class KeyFiles:
    """Where the key sets are. The public ones are for processes that never sign."""

    tokens: Path
    tokens_public: Path
    tickets: Path
    tickets_public: Path
    files: Path


def development_keys(home: Home) -> KeyFiles:
    """The key files of this home, made when missing."""
    tokens, tickets, files = "token-keys.json", "ticket-keys.json", "files-keys.json"
    home.secret(files, _secret_set)
    return KeyFiles(
        tokens=home.secrets / tokens,
        tokens_public=_public_beside(home, tokens, "development"),
        tickets=home.secrets / tickets,
        tickets_public=_public_beside(home, tickets, "development-tickets"),
        files=home.secrets / files,
    )


def _public_beside(home: Home, name: str, key_id: str) -> Path:
    private = json.loads(home.secret(name, lambda: _signing_set(key_id)))
    public = {"keys": [{member: value for member, value in key.items() if member != "d"} for key in private["keys"]]}
    public_name = name.replace(".json", ".public.json")
    home.secret(public_name, lambda: _encoded(public))
    return home.secrets / public_name


def _signing_set(key_id: str) -> bytes:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    entry = {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": key_id}
    return _encoded({"keys": [entry | {"x": _text(public), "d": _text(private)}]})


def _secret_set() -> bytes:
    key = {
        "kty": "oct",
        "alg": "HS256",
        "kid": "development-files",
        "k": _text(secrets.token_bytes(_FILES_SECRET_BYTES)),
    }
    return _encoded({"keys": [key]})


def _text(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _encoded(value: dict[str, Any]) -> bytes:
    return json.dumps(value, indent=1).encode()
