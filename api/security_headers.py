"""What every answer says to browsers: take nothing for what it is not, keep nothing, show it in no frame, and tell no
other site where one came from.

An answer that brings one of these fields itself has its reasons: a page of documents, or what may be kept.
"""

from typing import Final

__all__ = ["SECURITY_HEADERS"]

SECURITY_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"x-frame-options", b"DENY"),
)
