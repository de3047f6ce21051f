"""Which pages of other sites may ask the API from a browser: none, unless their origins are named.

A preflight is answered before anything looks for a token, since browsers send none with it. Nothing here ever allows
credentials: the API knows no cookies, and a bearer token is a header that the page sets itself.
"""

import re
from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from api.inputs import Headers

__all__ = ["Cors", "Fields", "parse_origins"]

Fields = Sequence[tuple[bytes, bytes]]

_ANY: Final = "*"
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?", re.ASCII)
_ORIGINS_MAX: Final = 100
_METHODS: Final = "GET, HEAD, POST, PUT, PATCH, DELETE"
_ASKED: Final = (
    "Authorization, Content-Encoding, Content-Type, Fleetwire-Read-After, Idempotency-Key, If-Match, If-None-Match, "
    "X-Request-ID"
)
_SHOWN: Final = (
    b"ETag, Fleetwire-Wrote, Idempotency-Replayed, Location, RateLimit, RateLimit-Policy, Retry-After, X-Request-ID"
)
_REMEMBERED_S: Final = 600


def parse_origins(raw: str) -> frozenset[str]:
    """A setting's parser: exact origins, or * for all."""
    origins = [one.strip() for one in raw.split(",")]
    if origins == [_ANY]:
        return frozenset(origins)
    wrong = [one for one in origins if _ORIGIN.fullmatch(one) is None]
    if wrong or len(origins) > _ORIGINS_MAX:
        raise ValueError(
            f"must be up to {_ORIGINS_MAX} origins in lower case as browsers send them, such as https://app.example, "
            "or * alone"
        )
    return frozenset(origins)


class Cors:
    """No origins: nothing is said, and a preflight is a method like any other."""

    def __init__(self, origins: frozenset[str]) -> None:
        self._origins = origins

    def __repr__(self) -> str:
        return f"Cors({', '.join(sorted(self._origins)) or 'off'})"

    def fields(self, headers: Headers) -> Fields:
        """What is added to the answer to such a request."""
        if not self._origins:
            return ()
        if _ANY in self._origins:
            return ((b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _SHOWN))
        origin = self._allowed(headers)
        # Caches must tell answers to different origins apart, also those to none.
        vary = (b"vary", b"Origin")
        if origin is None:
            return (vary,)
        return (vary, (b"access-control-allow-origin", origin), (b"access-control-expose-headers", _SHOWN))

    def preflight(self, method: str, headers: Headers) -> Response | None:
        """The answer to a preflight of a page that may ask; None for everything else."""
        if method != "OPTIONS" or b"access-control-request-method" not in headers or self._allowed(headers) is None:
            return None
        allowed = {
            "Access-Control-Allow-Methods": _METHODS,
            "Access-Control-Allow-Headers": _ASKED,
            "Access-Control-Max-Age": str(_REMEMBERED_S),
        }
        return Response(status_code=204, headers=allowed)

    def _allowed(self, headers: Headers) -> bytes | None:
        origins = headers.get(b"origin", [])
        if len(origins) != 1:
            return None
        known = _ANY in self._origins or origins[0].decode("latin-1") in self._origins
        return origins[0] if known else None
