"""A fault in what one connection does costs that device its socket, and nobody else anything.

The loops that serve all connections (wheel, sweep, gathered reads, acks, renewals) call into each by a plain call. An
error that came out of one would end the loop, and a hub that has lost a loop leaves with all its devices. So what they
call is marked `apart`: the error is logged, the socket cut, and the device comes back to a new session.
"""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import structlog

__all__ = ["Breakable", "apart"]

_log = structlog.get_logger(__name__)

P = ParamSpec("P")


class Breakable(Protocol):
    """What can be given up alone."""

    @property
    def device_id(self) -> str: ...
    def on_fault(self) -> None: ...


B = TypeVar("B", bound=Breakable)


def apart(entry: Callable[Concatenate[B, P], None]) -> Callable[Concatenate[B, P], None]:
    """Never raises; for entries that loops of the whole hub call."""

    @wraps(entry)
    def call(connection: B, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            entry(connection, *args, **kwargs)
        except Exception:  # noqa: BLE001 - whatever it is, it is this connection's alone
            _log.exception("a connection is broken and given up", device_id=connection.device_id)
            connection.on_fault()

    return call
