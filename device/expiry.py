"""Until when a token holds, by its own word. Pure.

The device cannot verify a token and need not: the server does. It reads the expiry to ask for a new one in time, and
goes on without when there is nothing to read. A ticket says how long the connection may live, apart from how long it
admits.
"""

import binascii
from base64 import urlsafe_b64decode
from datetime import datetime

import msgspec

__all__ = ["connection_expiry", "instant"]

_SECONDS_MAX = 2**40


class _Claims(msgspec.Struct):
    exp: float | None = None
    session_exp: float | None = None


def connection_expiry(token: str) -> float | None:
    """Unix seconds until which a connection opened with this token may live; None when the token does not say."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except (binascii.Error, ValueError, msgspec.DecodeError):
        return None
    expiry = claims.session_exp if claims.session_exp is not None else claims.exp
    return expiry if expiry is not None and 0 < expiry < _SECONDS_MAX else None


def instant(text: str) -> float | None:
    """RFC 3339 as Unix seconds; None when it is not that."""
    try:
        parsed = datetime.fromisoformat(text)
        return parsed.timestamp() if parsed.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None
