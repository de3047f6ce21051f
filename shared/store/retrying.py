"""When what failed may be asked again without its caller: never when it may have taken effect and would take it twice.

An attempt goes through three phases. WAITING: nothing was sent. WORKING: inside a transaction; without its COMMIT
nothing of it stands. ENDING: the COMMIT, or a statement outside a transaction, was sent. A server that goes away while
it is ENDING leaves it unknown whether it took effect, so only what may be repeated (a read, or what a key makes
idempotent) is.
"""

from enum import Enum
from typing import Final

__all__ = ["LOST", "PAUSES_S", "UNSENT", "Phase", "is_read_only_server", "may_repeat"]

LOST: Final = "08000"
"""Stands for a connection that was refused or cut: no server was there to give a code."""

UNSENT: Final = "08001"
"""Stands for a connection that was found closed before the statement was sent."""

PAUSES_S: Final = (0.05, 0.2)
"""Before the second and the third try, each jittered to 0.5–1.5 of it; there is no fourth."""

_UNDONE: Final = frozenset({"40001", "40P01"})  # serialization failure, deadlock: rolled back by the server
_READ_ONLY: Final = "25006"  # a statement that writes was refused: this server is no primary (any more)
_SHUTTING_DOWN: Final = frozenset({"57P01", "57P02", "57P03"})


class Phase(Enum):
    """How far an attempt came."""

    WAITING = 1
    WORKING = 2
    ENDING = 3


def may_repeat(code: str | None, phase: Phase, *, repeatable: bool) -> bool:
    """Whether to try again after an error with this SQLSTATE, before any bound on how often."""
    if code is None:
        return False
    if code in _UNDONE or code in (_READ_ONLY, UNSENT):
        return True
    if code in _SHUTTING_DOWN or code.startswith("08"):
        return phase is not Phase.ENDING or repeatable
    return False


def is_read_only_server(code: str | None) -> bool:
    """Whether the error says that this server takes no writes: all connections to it are of no use."""
    return code == _READ_ONLY
