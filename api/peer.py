"""Whoever a connection leads to, and what is to happen when he goes.

A request whose client has gone is cancelled, and Postgres is told to stop what it was asked for it, unless the request
has passed its point of no return (`shared.store.point_of_no_return`): from the first commit on it runs to its end,
since what belongs to the commit would be left out otherwise, and a client that repeats itself finds the answer kept.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from shared.store.point_of_no_return import Undertaking

__all__ = ["Departure", "Peer", "peer_of"]

_KEY: Final = "fleetwire.peer"


class Peer:
    """One connection's client. The HTTP layer says `gone()`."""

    __slots__ = ("on_gone",)

    def __init__(self) -> None:
        self.on_gone: Callable[[], None] | None = None

    def gone(self) -> None:
        """The connection ended while a request was handled."""
        if self.on_gone is not None:
            self.on_gone()

    def in_state(self) -> dict[str, Any]:
        """The entry of an ASGI scope's `state` under which `peer_of` finds this."""
        return {_KEY: self}


def peer_of(scope: Any) -> Peer:
    """The client of a request; one that never goes where the HTTP layer does not tell."""
    peer = scope.get("state", {}).get(_KEY)
    return peer if isinstance(peer, Peer) else Peer()


class Departure:
    """Cancels the task of one request when its client goes: `with Departure(peer) as departure`.

    A cancellation that came of it is `departure.is_cause`, and is taken back by `forgive()`.
    """

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._undertaking = Undertaking()
        self._task: asyncio.Task[Any] | None = None
        self.is_cause = False

    def __enter__(self) -> "Departure":
        self._task = asyncio.current_task()
        self._undertaking.begin()
        self._peer.on_gone = self._leave
        return self

    def __exit__(self, *_: object) -> None:
        # The next request of the connection may have begun.
        if self._peer.on_gone == self._leave:
            self._peer.on_gone = None

    def forgive(self) -> None:
        """The cancellation has been answered to."""
        if self._task is not None:
            self._task.uncancel()

    def _leave(self) -> None:
        if self._task is not None and not self.is_cause and not self._undertaking.is_past_return:
            self.is_cause = True
            self._task.cancel()
