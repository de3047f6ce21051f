"""Where a socket is tried and what opens it: an assignment with a ticket, or the fixed address with the token.

The token goes to the origin it was given for and nowhere else. A ticket opens one socket and nothing more, so it may go
where the API or a hub says; without an API there are no tickets, and a move leads no further than the same origin.
"""

from dataclasses import dataclass
from typing import NamedTuple

from device.addresses import check_socket_url, same_origin
from device.credential import Credential
from device.errors import ClientClosed, ConfigurationError, Unreachable
from device.rest import Rest

__all__ = ["Target", "Targets"]


class Target(NamedTuple):
    """One address to try."""

    url: str
    bearer: str
    is_ticket: bool


@dataclass
class Targets:
    """`token_refused`: the hub has refused or outlived the token in use, so a new one comes first."""

    credential: Credential
    rest: Rest | None
    fixed_url: str | None
    token_refused: bool = False

    async def ask(self, moved_to: str | None = None) -> list[Target]:
        """In order of choice. Raises TransportError, and ClientClosed unless it is for a move."""
        try:
            return await self._ask(moved_to)
        except ClientClosed as error:
            if moved_to is None:
                raise
            raise Unreachable(f"no way to move: {error}") from error  # the socket that asked for it goes on

    async def _ask(self, moved_to: str | None) -> list[Target]:
        token = await self.credential.token()
        if self.token_refused and (self.fixed_url is not None or self.credential.renewable):
            token = await self.credential.renewed(token)
        self.token_refused = False
        if moved_to is not None:
            return [await self._moved(moved_to, token)]
        if self.fixed_url is not None:
            return [Target(self.fixed_url, token, is_ticket=False)]
        if self.rest is None:
            raise AssertionError("a client has an API or a socket url")
        found = await self.rest.assignment()
        return [Target(url, found.ticket, is_ticket=True) for url in found.urls]

    async def newer_bearer(self, token: str, *, is_ticket: bool) -> str:
        """What renews a socket in band: the same kind as what opened it, so the token stays where it was sent before.
        Raises TransportError, ClientClosed."""
        return (await self.rest.assignment()).ticket if is_ticket and self.rest is not None else token

    async def _moved(self, url: str, token: str) -> Target:
        try:
            check_socket_url(url, api=self.rest.api if self.rest is not None else None)
        except ConfigurationError as error:
            raise Unreachable(f"told to move to an address that cannot be used: {error}") from None
        if self.fixed_url is not None and same_origin(url, self.fixed_url):
            return Target(url, token, is_ticket=False)
        if self.rest is None:
            raise Unreachable("told to move to another origin; the token is not sent there")
        return Target(url, (await self.rest.assignment()).ticket, is_ticket=True)
