"""From where on work that was begun for somebody is finished even when he has gone.

Whoever may cancel a piece of work runs it in an `Undertaking`. The pool says just before it sends the first thing that
may take effect by itself: a COMMIT, or a statement outside a transaction that is not a plain read. Until then nothing
has happened, cancelling undoes all, and Postgres is told to stop. After it the outcome would not be known, and what
follows a commit (telling the bus, keeping the answer for a repetition) would be left out: it is finished instead.
"""

from contextvars import ContextVar
from typing import Final

__all__ = ["Undertaking", "passed"]


class Undertaking:
    """One piece of work. `begin()` it in the task that does it; its own child tasks count as the same work."""

    __slots__ = ("is_past_return",)

    def __init__(self) -> None:
        self.is_past_return = False

    def __repr__(self) -> str:
        return f"Undertaking({'past return' if self.is_past_return else 'can be undone'})"

    def begin(self) -> None:
        """From now on what this task does is this undertaking."""
        _CURRENT.set(self)


_CURRENT: Final[ContextVar[Undertaking | None]] = ContextVar("undertaking", default=None)


def passed() -> None:
    """The next thing sent may take effect."""
    undertaking = _CURRENT.get()
    if undertaking is not None:
        undertaking.is_past_return = True
