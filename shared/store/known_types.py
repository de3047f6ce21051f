"""Array types that each new connection knows without asking.

The driver asks the server about every array type, on each connection anew, by a query that takes 10 to 20 ms of it:
more than all else that a connection costs, and a burst of requests opens dozens. They are the server's own types and
the same for every connection, so the first one asks and the others are told.
"""

from typing import Any, Final

__all__ = ["ARRAYS", "know_arrays"]

# By the numbers that Postgres has given its own types for good: arrays of bool, bytea, int2, int4, text, int8, float8,
# timestamptz, date, interval and uuid.
ARRAYS: Final = (1000, 1001, 1005, 1007, 1009, 1016, 1022, 1185, 1182, 1187, 2951)

_rows: list[Any] = []


async def know_arrays(connection: Any, *, timeout_s: float) -> None:
    """Make a new connection know them. A driver that has no place for that asks for itself, as ever."""
    ask = getattr(connection, "_introspect_types", None)
    protocol = getattr(connection, "_protocol", None)
    register = getattr(protocol.get_settings(), "register_data_types", None) if protocol is not None else None
    if ask is None or register is None:
        return
    if not _rows:
        found, _ = await ask(ARRAYS, timeout_s)
        _rows[:] = found
    register(_rows)
