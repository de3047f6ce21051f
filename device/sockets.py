"""All sockets of a client and the tries for more: which is the newest live one, and when there is none left. Pure.

While a device moves it has two. The hub tells the old one that it is superseded before the new one has heard its
welcome, so the end of the last live socket is news only when no other is on its way; what it means, even "never come
back", is held until that is decided, and forgotten when the other goes live.
Example: 1 is live, 2 is being opened; 1 closes with 4002: pending. 2 is welcomed: nothing was lost. Or 2 fails: gone.
"""

from collections.abc import Iterator

from device.actions import Action, CloseLink, Gone
from device.liveness import Patience, Socket
from shared.protocol.close_codes import CloseCode, how_to_return

__all__ = ["Sockets"]


class Sockets:
    """By number; a higher one is newer."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._links: dict[int, Socket] = {}
        self._tries: set[int] = set()
        self._highest = 0
        self._held: Gone | None = None  # how the last live one closed while another was on its way

    def __iter__(self) -> Iterator[Socket]:
        return iter(self._links.values())

    def __repr__(self) -> str:
        return f"Sockets({sorted(self._links)}, tries={sorted(self._tries)}, newest={self.newest})"

    def get(self, number: int) -> Socket | None:
        """The open socket of this number."""
        return self._links.get(number)

    @property
    def live(self) -> bool:
        """Whether events flow over one of them."""
        return any(link.live for link in self._links.values())

    @property
    def newest(self) -> int | None:
        """The newest one over which events flow."""
        return max((link.number for link in self._links.values() if link.live), default=None)

    def begin(self, number: int) -> None:
        """A try begins."""
        if number <= self._highest:
            raise AssertionError("socket numbers rise")
        self._highest = number
        self._tries.add(number)

    def fail(self, number: int) -> list[Action]:
        """The try came to nothing."""
        self._tries.discard(number)
        return self._let_go_of_held()

    def open(self, number: int, now: float) -> None:
        """A socket is open; its try need not have been said before."""
        if number not in self._tries:
            self.begin(number)
        self._tries.discard(number)
        self._links[number] = Socket(number, self._patience, opened_at=now, heard_at=now, sent_at=now)

    def go_live(self, link: Socket) -> list[CloseLink]:
        """Events flow over this one; those before it are done with."""
        link.reset_due = False
        link.went_live = True
        self._held = None
        return [
            other.close("a newer socket of this client is live", code=CloseCode.NORMAL)
            for other in self._links.values()
            if other.number < link.number and not other.closing
        ]

    def close(self, number: int, code: int, reason: str) -> list[Action]:
        """This one has closed, with the code the hub gave, or 1006."""
        link = self._links.pop(number, None)
        if link is None or self.live:
            # 4002 and the like are only news while no other socket lives.
            return []
        gone = Gone(number, how_to_return(code), code, reason, link.went_live)
        if not self._on_the_way:
            return [*self._let_go_of_held(), gone]
        if not link.went_live:
            return []
        self._held = gone
        return [gone._replace(pending=True)]

    @property
    def _on_the_way(self) -> bool:
        return bool(self._tries) or any(not link.closing and not link.live for link in self._links.values())

    def _let_go_of_held(self) -> list[Action]:
        if self._held is None or self.live or self._on_the_way:
            return []
        held, self._held = self._held, None
        return [held._replace(was_live=False)]
