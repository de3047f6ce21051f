"""How Cloudinary's parameters are signed [pure].

Every parameter that is sent (but `file`, `cloud_name`, `resource_type`, `api_key`) as `name=value`, sorted, joined by
`&`, the API secret appended, hashed. In version 2 each `&` inside a pair is written `%26`, so that no value can pretend
to be one more parameter; answers are still signed as in version 1.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final, Literal

__all__ = ["HashName", "is_signed_answer", "signature"]

HashName = Literal["sha1", "sha256"]

_UNSIGNED: Final = frozenset({"file", "cloud_name", "resource_type", "api_key", "signature"})


def signature(parameters: Mapping[str, str], secret: str, *, algorithm: HashName = "sha1", version: int = 2) -> str:
    """The signature, as hex digits. Empty values are neither sent nor signed."""
    pairs = [f"{name}={value}" for name, value in parameters.items() if value and name not in _UNSIGNED]
    if version >= 2:
        pairs = [pair.replace("&", "%26") for pair in pairs]
    to_sign = "&".join(sorted(pairs)) + secret
    # The hash is Cloudinary's choice; nothing else rests on it.
    hashed = hashlib.sha256 if algorithm == "sha256" else hashlib.sha1
    return hashed(to_sign.encode()).hexdigest()


def is_signed_answer(public_id: str, version: object, given: str, secret: str, *, algorithm: HashName) -> bool:
    """Whether an answer about this asset was signed by who knows the secret."""
    wanted = signature({"public_id": public_id, "version": str(version)}, secret, algorithm=algorithm, version=1)
    return hmac.compare_digest(wanted.encode(), given.encode(errors="replace"))
