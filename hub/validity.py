"""Until when a connection may go on: its credential, how that is renewed, and what ends it early.

A token speaks of the wall clock, which may be set; the wait for its end is measured by the one that may not. So the
end is reckoned anew whenever the wall clock was set, and once more when it seems to have come. Pure.
"""

from hub.greeting import Credential, is_signed, renew
from shared.tokens import KeyRing

__all__ = ["Validity"]


class Validity:
    """`due` is when the credential is over, by the monotonic clock; `reckon()` says so for the first time."""

    __slots__ = ("_credential", "_is_checking", "_tickets", "_tokens", "due")

    def __init__(self, credential: Credential, *, tokens: KeyRing, tickets: KeyRing) -> None:
        self._credential = credential
        self._tokens = tokens
        self._tickets = tickets
        self._is_checking = False
        self.due = 0.0

    def __repr__(self) -> str:
        return f"Validity(until {self._credential.expires_at:.0f}{', a token is checked' if self._is_checking else ''})"

    @property
    def issued_at(self) -> float | None:
        """When the token was made, by which it may be revoked."""
        return self._credential.issued_at

    @property
    def token_id(self) -> str | None:
        """The name of the token, by which it may be revoked."""
        return self._credential.token_id

    @property
    def is_signed(self) -> bool:
        """Whether the keys that signed the credential are still accepted."""
        return is_signed(self._credential, tokens=self._tokens, tickets=self._tickets)

    def reckon(self, now: float, wall_now: float) -> None:
        """The end by both clocks as they are now."""
        self.due = now + self._credential.expires_at - wall_now

    def is_over(self, now: float, wall_now: float) -> bool:
        """Whether the end has come."""
        if now < self.due:
            return False
        self.reckon(now, wall_now)
        return now >= self.due

    def begin_renewal(self, token: str, wall_now: float) -> Credential | str:
        """What a `token` frame brings, to be looked up among those revoked; or why it is refused."""
        renewed = renew(self._credential, token, tokens=self._tokens, tickets=self._tickets, now=wall_now)
        if isinstance(renewed, str):
            return renewed
        if self._is_checking:
            return "an earlier token is still being checked; wait for its answer"
        self._is_checking = True
        return renewed

    def end_renewal(self, credential: Credential, revoked: bool | None) -> str | None:
        """It was looked up; `revoked` None: nobody could say. Why it is refused, or None: it counts from now on."""
        self._is_checking = False
        if revoked is not False:
            return "the token was revoked" if revoked else "the token cannot be checked now; send it again"
        if not is_signed(credential, tokens=self._tokens, tickets=self._tickets):
            return "the key that signed the token was retired meanwhile"
        self._credential = credential
        return None
