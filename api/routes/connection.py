"""Where a device connects: a hub, a ticket for it, and what to try when it refuses. Needs Postgres and nothing else."""

import uuid
from typing import Final

from starlette.responses import Response

from api.answers import typed_answer
from api.assignment import Mode, assign
from api.descriptions.devices import CONNECT, Assigned, HubPlace
from api.gathering import Gathering
from api.hub_view import HubView
from api.known_device import of_known_device
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.clock import iso, wall
from shared.hub_urls import socket_url
from shared.store import heads
from shared.store.heads import Place
from shared.store.hubs import HubRow
from shared.store.pool import Pool
from shared.tokens import KeyRing

__all__ = ["Connection"]

BATCH_MAX: Final = 500


class Connection:
    """`GET /api/v1/devices/{device_id}/connection`"""

    def __init__(
        self, pool: Pool, hubs: HubView, ticket_keys: KeyRing, *, proxy_url: str | None, ticket_lifetime_s: float
    ) -> None:
        self._pool = pool
        self._places: Gathering[str, Place] = Gathering(
            lambda device_ids: heads.places(pool, device_ids), batch_max=BATCH_MAX
        )
        self._hubs = hubs
        self._ticket_keys = ticket_keys
        self._proxy_url = proxy_url
        self._ticket_lifetime_s = ticket_lifetime_s

    def resource(self, guard: Guard) -> Resource:
        """For the route table."""
        operation = Operation(self.read, frozenset({"device"}), description=CONNECT)
        return Resource(guard, "/api/v1/devices/{device_id}/connection", {"GET": operation})

    async def read(self, call: Call) -> Response:
        """Assign a hub and mint a ticket that lives no longer than the token it was given for."""
        live = await self._hubs.live()
        place = await of_known_device(self._pool, call, lambda: self._places.ask(call.device_id, call.device_id))
        assignment = assign(call.device_id, live, connected_to=place.hub)
        if assignment is None:
            raise Problem("no-hub", "no hub has room now; read events by REST meanwhile")
        now = wall()
        lifetime_s = min(self._ticket_lifetime_s, max(1.0, call.claims.expires_at - now))
        ticket = self._ticket_keys.mint_ticket(
            subject=call.device_id,
            token_id=uuid.uuid4().hex,
            now=now,
            lifetime_s=lifetime_s,
            session_expires_at=call.claims.expires_at,
            device_class=place.device_class,
            parent=call.claims.token_id,
            parent_issued_at=call.claims.issued_at,
            parent_key_id=call.claims.key_id,
        )
        mode: Mode = "direct" if self._proxy_url is None else "proxy"
        first = self._place(assignment.hub)
        alternatives = [self._place(hub) for hub in assignment.alternatives]
        return typed_answer(Assigned(first.hub, first.url, ticket, iso(int(now + lifetime_s)), alternatives, mode))

    def _place(self, hub: HubRow) -> HubPlace:
        return HubPlace(hub.name, socket_url(hub.name, hub.url, self._proxy_url))
