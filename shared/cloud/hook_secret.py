"""The secret that a provider sends with every call of a hook, and the feed that it names [pure].

It says which feed it belongs to, so that whoever gets a call knows which secret to compare it with. That it names a
feed proves nothing: only being equal to the one in the feed's row does.
"""

from typing import Final

__all__ = ["SECRET_MAX", "feed_of_secret", "hook_secret"]

SECRET_MAX: Final = 128
"""Characters; what the strictest provider takes."""
_NONCE_HEX: Final = 32


def hook_secret(feed_id: str, nonce: bytes) -> str:
    """The secret of a feed, made of 16 random bytes."""
    if len(nonce) * 2 != _NONCE_HEX:
        raise ValueError("nonce has 16 bytes")
    secret = f"{feed_id}~{nonce.hex()}"
    if len(secret) > SECRET_MAX:
        raise ValueError(f"feed id has {len(feed_id)} characters; at most {SECRET_MAX - _NONCE_HEX - 1} leave room")
    return secret


def feed_of_secret(secret: str) -> str | None:
    """The feed that a secret names; None for what is no secret of ours."""
    feed_id, mark, nonce = secret.rpartition("~")
    if len(secret) > SECRET_MAX or not feed_id or not mark or len(nonce) != _NONCE_HEX:
        return None
    # Anybody may send anything, and one id that no database holds would fail the question of all who ask with it.
    if not (secret.isascii() and secret.isprintable()):
        return None
    return feed_id
