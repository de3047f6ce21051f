"""Settings of the calls that cloud providers make; a base class of the API's settings."""

from dataclasses import dataclass
from typing import Final

from shared.settings import setting

__all__ = ["HookSettings"]

_SECRET_MIN_CHARS: Final = 24


def _secret(raw: str) -> str:
    if not (_SECRET_MIN_CHARS <= len(raw) <= 256 and raw.isascii() and raw.isprintable() and " " not in raw):
        raise ValueError(f"use {_SECRET_MIN_CHARS} to 256 printable ASCII characters without blanks")
    return raw


@dataclass(frozen=True, kw_only=True)
class HookSettings:
    """Graph and Drive bring a secret of their own with each subscription; S3 has none to give."""

    hooks_s3_secret: str | None = setting(
        "FLEETWIRE_HOOKS_S3_SECRET",
        None,
        help="Secret of calls about the bucket; without it none is taken.",
        parse=_secret,
        secret=True,
    )
