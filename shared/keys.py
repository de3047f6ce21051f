"""Which keys a process reads, from a file or inline from the environment, in one place for all processes.

Three rings, never mixed: bearer tokens, socket tickets, and the secrets that sign file URLs. Each is a JSON Web Key
Set. The settings groups below are base classes of a process's settings (`class Settings(TokenKeySettings, …)`,
keyword-only).
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, TypeVar

from shared.key_url_settings import KeyUrlSettings
from shared.settings import SettingsError, path, setting
from shared.tokens import KeyRing

__all__ = [
    "FilesKeySettings",
    "HmacKeys",
    "TicketKeySettings",
    "TokenKeySettings",
    "read_again",
    "read_hmac_keys",
    "read_key_ring",
]

KEY_FILE_MAX_BYTES: Final = 64 * 1024
HMAC_KEY_MIN_BYTES: Final = 32

K = TypeVar("K")


class HmacKeys(Mapping[str, bytes]):
    """Secrets by key id, in the order of their set: the last signs, all verify."""

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._secrets = secrets

    def __repr__(self) -> str:
        return f"HmacKeys({sorted(self._secrets)}, signs with {self.signing_key_id})"

    def __getitem__(self, key_id: str) -> bytes:
        return self._secrets[key_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)

    @property
    def key_ids(self) -> frozenset[str]:
        """The ids of all keys."""
        return frozenset(self._secrets)

    @property
    def signing_key_id(self) -> str:
        """The id of the key that signs."""
        return list(self._secrets)[-1]

    def adopt(self, other: "HmacKeys") -> None:
        """Accept and sign with the keys of `other` from now on, and no longer with those it had."""
        self._secrets = other._secrets

    @classmethod
    def from_jwks(cls, text: str) -> "HmacKeys":
        """Read a key set of `kty: oct`. Raises ValueError naming the key and the member to mend, never the secret."""
        return cls(_hmac_keys(text))


def read_key_ring(file: Path | None, inline: str | None, *, variable: str = "FLEETWIRE_TOKEN_KEYS") -> KeyRing:
    """The key set of `<variable>_FILE` or `<variable>`. Raises SettingsError naming the variable, never the keys."""
    text, source = _read(file, inline, variable)
    return _keys_of(KeyRing.from_jwks, text, source)


def read_again(keys: KeyRing | HmacKeys, file: Path, *, variable: str) -> tuple[KeyRing | HmacKeys, bytes]:
    """Keys of the same kind from the file, and a digest of it. Raises SettingsError; what it holds is left alone."""
    text, source = _read(file, None, variable)
    from_jwks: Callable[[str], KeyRing | HmacKeys] = type(keys).from_jwks
    return _keys_of(from_jwks, text, source), sha256(text.encode()).digest()


def read_hmac_keys(file: Path | None, inline: str | None, *, variable: str = "FLEETWIRE_FILES_KEYS") -> HmacKeys:
    """The secrets of `<variable>_FILE` or `<variable>`. Raises SettingsError naming the variable, never the secrets."""
    text, source = _read(file, inline, variable)
    return _keys_of(HmacKeys.from_jwks, text, source)


@dataclass(frozen=True, kw_only=True)
class TokenKeySettings(KeyUrlSettings):
    """Keys of bearer tokens. Public ones suffice for a process that only verifies; with an address where its issuer
    publishes some, a process needs none of its own."""

    token_keys_file: Path | None = setting(
        "FLEETWIRE_TOKEN_KEYS_FILE", None, help="File with the key set (JWKS) of bearer tokens.", parse=path
    )
    token_keys: str | None = setting("FLEETWIRE_TOKEN_KEYS", None, help="The same key set inline.", secret=True)

    def token_key_ring(self) -> KeyRing:
        """Read and check the keys that are given here. Raises SettingsError."""
        if self.token_keys_url is not None and self.token_keys_file is None and not self.token_keys:
            return KeyRing({}, frozenset(), self.token_rules())
        ring = read_key_ring(self.token_keys_file, self.token_keys, variable="FLEETWIRE_TOKEN_KEYS")
        return ring.under(self.token_rules())


@dataclass(frozen=True, kw_only=True)
class TicketKeySettings:
    """Keys of socket tickets: private ones for the API, public ones for hubs."""

    ticket_keys_file: Path | None = setting(
        "FLEETWIRE_TICKET_KEYS_FILE", None, help="File with the key set (JWKS) of socket tickets.", parse=path
    )
    ticket_keys: str | None = setting("FLEETWIRE_TICKET_KEYS", None, help="The same key set inline.", secret=True)

    def ticket_key_ring(self) -> KeyRing:
        """Read and check the keys. Raises SettingsError."""
        return read_key_ring(self.ticket_keys_file, self.ticket_keys, variable="FLEETWIRE_TICKET_KEYS")


@dataclass(frozen=True, kw_only=True)
class FilesKeySettings:
    """Secrets that sign file URLs, shared by the API and the files gateway."""

    files_keys_file: Path | None = setting(
        "FLEETWIRE_FILES_KEYS_FILE",
        None,
        help="File with the key set (JWKS, kty oct) that signs file URLs.",
        parse=path,
    )
    files_keys: str | None = setting("FLEETWIRE_FILES_KEYS", None, help="The same key set inline.", secret=True)

    def files_hmac_keys(self) -> HmacKeys:
        """Read and check the secrets. Raises SettingsError."""
        return read_hmac_keys(self.files_keys_file, self.files_keys, variable="FLEETWIRE_FILES_KEYS")


def _keys_of(from_jwks: Callable[[str], K], text: str, source: str) -> K:
    try:
        return from_jwks(text)
    except ValueError as error:
        raise SettingsError([f"{source} is wrong: {error}"]) from None


def _read(file: Path | None, inline: str | None, variable: str) -> tuple[str, str]:
    if inline:
        if file is not None:
            raise SettingsError([f"{variable} and {variable}_FILE are both set: set one"])
        return inline, variable
    if file is None:
        raise SettingsError(
            [f"{variable}_FILE is not set: the file with the key set, or {variable} with the set itself"]
        )
    source = f"{variable}_FILE={str(file)!r}"
    try:
        with file.open("rb") as stream:
            raw = stream.read(KEY_FILE_MAX_BYTES + 1)
        if len(raw) > KEY_FILE_MAX_BYTES:
            raise SettingsError([f"{source} is wrong: larger than {KEY_FILE_MAX_BYTES} bytes"])
        return raw.decode(), source
    except OSError as error:
        raise SettingsError([f"{source} cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise SettingsError([f"{source} is wrong: not UTF-8"]) from None


def _hmac_keys(text: str) -> dict[str, bytes]:
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError):
        raise ValueError('key set must be JSON of the form {"keys": [...]}') from None
    if not isinstance(entries, list) or not entries:
        raise ValueError("key set holds no key")
    keys: dict[str, bytes] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"key {number} is not a JSON object")
        kid, encoded = entry.get("kid"), entry.get("k")
        if not isinstance(kid, str) or not 1 <= len(kid) <= 128:
            raise ValueError(f"key {number} needs a kid of 1 to 128 characters")
        if kid in keys:
            raise ValueError(f"key {kid} appears twice")
        if entry.get("kty") != "oct" or not isinstance(encoded, str):
            raise ValueError(f"key {kid} must be kty oct with k")
        keys[kid] = _secret(kid, encoded)
    return keys


def _secret(kid: str, encoded: str) -> bytes:
    try:
        secret = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"key {kid} has a k that is not base64url") from None
    if len(secret) < HMAC_KEY_MIN_BYTES:
        raise ValueError(f"key {kid} has {len(secret)} bytes; use at least {HMAC_KEY_MIN_BYTES}")
    return secret
