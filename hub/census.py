"""How many sockets are open, and how many an address may have: counted from the moment the kernel hands one over.

A socket that never asks for anything holds a descriptor like any other, so it counts before it has said a word.
"""

from collections.abc import Callable

__all__ = ["Census"]


class Census:
    """At most `most` sockets are taken.

    `arrive` says which address a socket counts for, or None when there are too many of it; `leave` that it is gone.
    """

    def __init__(
        self,
        most: int,
        *,
        arrive: Callable[[str], str | None] = lambda peer: "",
        leave: Callable[[str], None] = lambda address: None,
    ) -> None:
        self.arrive = arrive
        self.leave = leave
        self.most = most
        self.sockets = 0

    def __repr__(self) -> str:
        return f"Census({self.sockets} of {self.most} sockets)"
