"""Whether this hub takes devices now, and if not, what they and the operator are told.

Redis down for everybody does not close it: the hub delivers from the log then. Redis deaf only here does: another hub
would do better.
"""

from collections.abc import Callable
from typing import Literal

from hub.refusals import Refusal
from hub.store_watch import StoreWatch
from shared.bus.canary_judge import BusState

__all__ = ["Gate"]


class Gate:
    """Open while the process runs normally and can ask Postgres and hear the bus."""

    def __init__(self, watch: StoreWatch, bus_state: Callable[[], BusState]) -> None:
        self._watch = watch
        self._bus_state = bus_state
        self.phase: Literal["starting", "open", "draining"] = "starting"

    def __repr__(self) -> str:
        return f"Gate({', '.join(self.reasons) or 'open'})"

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not, for the operations port; empty when open."""
        reasons: list[str] = []
        if self.phase != "open":
            reasons.append(self.phase)
        if self._watch.failing is not None:
            reasons.append("postgres does not answer")
        if self._bus_state() is BusState.DEAF:
            reasons.append("the bus does not reach this hub")
        return tuple(reasons)

    @property
    def bus(self) -> str:
        """How the bus is judged to be: ok, doubt, degraded, deaf."""
        return self._bus_state().value

    @property
    def refusal(self) -> Refusal | None:
        """What a handshake is answered, None when it is welcome."""
        if self.phase == "draining":
            return Refusal("draining", "the hub is draining; ask for the assignment again")
        reasons = self.reasons
        if reasons:
            return Refusal("not-ready", "the hub is not ready; ask for the assignment again", reason="not-ready")
        return None
