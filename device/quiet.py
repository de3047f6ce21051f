"""Keeps what our requests carry out of the logs of the libraries that carry them.

They log whole addresses and headers, at INFO and DEBUG, and ours hold signatures and tokens. Only records made by our
own requests are dropped: what else the application does with the same libraries is logged as it wishes.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

__all__ = ["WIRE_LOG", "unlogged"]

_ours: ContextVar[bool] = ContextVar("fleetwire_request", default=False)

# The socket library writes headers at DEBUG when its logger lets it.
WIRE_LOG: Final = logging.getLogger("fleetwire.device.wire")
WIRE_LOG.setLevel(logging.INFO)


class _NotOurs(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not _ours.get()


for _name in ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.http2", "httpcore.proxy", "httpcore.socks"):
    logging.getLogger(_name).addFilter(_NotOurs())


@contextmanager
def unlogged() -> Iterator[None]:
    """What is requested inside is not logged by the HTTP library."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)
