"""Key sets as issuers of tokens publish them (RFC 7517): more liberal than our own, and public.

Such a set may leave `alg` out, and may hold keys for other purposes or of kinds that are not taken here; those are
passed over. A secret in it would be known to everybody, so a key with one is passed over, too, whatever it is for.
"""

import json
from typing import Any, Final

from shared.tokens import KeyRing

__all__ = ["read_published"]

_KEYS_MAX: Final = 100
_BY_KIND: Final = {("RSA", None): "RS256", ("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}


def read_published(text: str) -> KeyRing:
    """The keys in it that verify signatures. Raises ValueError, which never shows a key."""
    try:
        entries = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError('key set must be JSON of the form {"keys": [...]}') from None
    if not isinstance(entries, list) or len(entries) > _KEYS_MAX:
        raise ValueError(f"key set must be a list of at most {_KEYS_MAX} keys")
    taken = [found for entry in entries if (found := _taken(entry)) is not None]
    if not taken:
        raise ValueError("key set holds no key that could be used: RS256, ES256 or EdDSA, with a kid")
    return KeyRing.from_jwks(json.dumps({"keys": taken}))


def _taken(entry: Any) -> dict[str, Any] | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("kid"), str) or entry.get("use", "sig") != "sig":
        return None
    kind = entry.get("kty")
    alg = _BY_KIND.get((kind, None if kind == "RSA" else entry.get("crv"))) if isinstance(kind, str) else None
    if alg is None or entry.get("alg", alg) != alg or {"d", "k", "p", "q"} & entry.keys():
        return None
    return entry | {"alg": alg}
