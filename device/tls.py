"""One TLS context for all that connects, unless the application brings its own.

Loading the certificate authorities takes milliseconds and a megabyte, which a process with many clients would pay for
each.
"""

import ssl
from functools import cache

import httpx

__all__ = ["default_tls"]


@cache
def default_tls() -> ssl.SSLContext:
    """Verifies certificates and host names against the usual authorities."""
    return httpx.create_ssl_context()
