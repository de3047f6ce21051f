"""Connecting to the one of several servers that takes writes, so that a failover needs no restart and no new setting.

`postgresql://user:password@a:5432,b:5432/name` names a primary and who may become it. Each is tried in turn, the one
that worked last time first, each with its share of the time: a machine that swallows packets must not use up the time
of the next. A standby, and a primary that is read-only, are passed over (`target_session_attrs` in the address says
otherwise).
"""

from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import parse_qs

import asyncpg

__all__ = ["Hosts", "addresses"]

_NEXT: Final = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def addresses(url: str) -> Sequence[str]:
    """One address for each host that `url` names, in its order."""
    # By hand: urllib takes only one host for an address when there are brackets in it.
    scheme, _, rest = url.partition("://")
    end = min((rest.index(mark) for mark in "/?#" if mark in rest), default=len(rest))
    user, at, hosts = rest[:end].rpartition("@")
    return [f"{scheme}://{user}{at}{host}{rest[end:]}" for host in hosts.split(",")]


class Hosts:
    """`connect` is what asyncpg's pool calls for a new connection."""

    def __init__(self, url: str, *, writable: bool) -> None:
        self._urls = addresses(url)
        self._last_good = 0
        given = "target_session_attrs" in parse_qs(url.partition("?")[2])
        self._wish = {} if given else {"target_session_attrs": "read-write" if writable else "any"}

    def __len__(self) -> int:
        return len(self._urls)

    def __repr__(self) -> str:
        return f"Hosts({len(self)}, last good is number {self._last_good + 1})"

    async def connect(self, _url: str, *, timeout: float, **options: Any) -> "asyncpg.Connection":
        """The first that is what is wanted. Raises what the last one said."""
        share = timeout / len(self._urls)
        failure: Exception = OSError("no address")
        for step in range(len(self._urls)):
            number = (self._last_good + step) % len(self._urls)
            try:
                connection = await asyncpg.connect(self._urls[number], timeout=share, **self._wish, **options)
            except _NEXT as error:
                failure = error
                continue
            self._last_good = number
            return connection
        raise failure
