"""Subscriptions of an emulated Graph: the handshake, and notifications that get lost, repeated, reordered or late.

A notification says only that something in a drive changed. Several for one address go in one request; a receiver that
fails is asked again, one that is often slow is told later.
"""

import asyncio
import secrets
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from urllib.parse import quote

import httpx

from loadtests.emulators.clock import EmulatedClock
from loadtests.emulators.graph_drive import GraphFault

__all__ = ["LIFETIME_MAX_S", "HookManners", "Subscription", "Subscriptions"]

LIFETIME_MAX_S: Final = 42_300 * 60.0
_HANDSHAKE_S: Final = 10.0
_SUBSCRIPTIONS_MAX: Final = 1000
_LAST_REPLIES: Final = 100


@dataclass
class Subscription:
    """Somebody who wants to be told."""

    id: str
    resource: str
    address: str
    lifecycle_address: str | None
    client_state: str | None
    expires_at: float
    told: int = 0

    def row(self, clock: EmulatedClock) -> dict[str, Any]:
        """As Graph writes it; without the state, which is the receiver's secret."""
        return {
            "id": self.id,
            "resource": self.resource,
            "changeType": "updated",
            "notificationUrl": self.address,
            "lifecycleNotificationUrl": self.lifecycle_address,
            "expirationDateTime": clock.iso(self.expires_at),
            "applicationId": "emulated",
            "creatorId": "emulated",
            "clientState": None,
        }


@dataclass
class HookManners:
    """How likely a notification is lost, repeated or held back behind the next, and how long each takes."""

    drop: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0
    gather_s: float = 0.02
    """Changes within that time are one notification."""
    retry_s: float = 0.1
    tries: int = 8
    """Within some twenty seconds; Graph itself goes on for hours."""
    slow_s: float = 2.9
    slow_delay_s: float = 0.5
    """What is added for an address of which a tenth of the last replies were slow."""


@dataclass
class _Receiver:
    replies: deque[bool] = field(default_factory=lambda: deque(maxlen=_LAST_REPLIES))

    @property
    def slow(self) -> bool:
        return len(self.replies) >= 10 and sum(self.replies) * 10 >= len(self.replies)


class Subscriptions:
    """All of them, and the tasks that tell (bounded)."""

    def __init__(self, clock: EmulatedClock, tenant: str, *, seed: int = 0, on_its_way_max: int = 2000) -> None:
        self.open: dict[str, Subscription] = {}
        self.manners = HookManners()
        self.sent = 0
        self.failed = 0
        self._clock = clock
        self._tenant = tenant
        self._random = Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_its_way_max = on_its_way_max
        self._waiting: dict[str, set[str]] = {}
        self._receivers: dict[str, _Receiver] = {}
        self._client: httpx.AsyncClient | None = None

    async def create(self, body: dict[str, Any], known: set[str]) -> Subscription:
        """After the handshake with the address. `known`: resources that may be watched."""
        resource = str(body.get("resource", ""))
        if body.get("changeType") != "updated":
            raise GraphFault(400, "InvalidRequest", "Only 'updated' is supported on a drive's root.")
        if resource.strip("/") not in known:
            raise GraphFault(400, "ExtensionError", f"The resource {resource!r} cannot be watched.")
        if len(str(body.get("clientState") or "")) > 128:
            raise GraphFault(400, "InvalidRequest", "clientState has more than 128 characters.")
        if len(self.open) >= _SUBSCRIPTIONS_MAX:
            raise GraphFault(403, "ExtensionError", "The limit of subscriptions is reached.")
        expires_at = self._expiry(body.get("expirationDateTime"))
        addresses = [str(body.get("notificationUrl", ""))]
        if body.get("lifecycleNotificationUrl"):
            addresses.append(str(body["lifecycleNotificationUrl"]))
        for address in dict.fromkeys(addresses):
            await self._handshake(address)
        made = Subscription(
            secrets.token_hex(16),
            resource,
            addresses[0],
            body.get("lifecycleNotificationUrl"),
            body.get("clientState"),
            expires_at,
        )
        self.open[made.id] = made
        return made

    def find(self, subscription_id: str) -> Subscription:
        """404 when it is over."""
        found = self.open.get(subscription_id)
        if found is not None and found.expires_at <= self._clock.now():
            del self.open[subscription_id]
            found = None
        if found is None:
            raise GraphFault(404, "ResourceNotFound", "The object was not found.")
        return found

    def renew(self, subscription_id: str, body: dict[str, Any]) -> Subscription:
        """Only the expiry may be changed."""
        found = self.find(subscription_id)
        if set(body) - {"expirationDateTime", "@odata.type"}:
            raise GraphFault(400, "InvalidRequest", "Only expirationDateTime may be changed.")
        found.expires_at = self._expiry(body.get("expirationDateTime"))
        return found

    def changed(self, drive_id: str) -> None:
        """Something changed in a drive."""
        for one in list(self.open.values()):
            if one.expires_at <= self._clock.now():
                del self.open[one.id]
            elif f"drives/{drive_id}/" in one.resource and self._random.random() >= self.manners.drop:
                waiting = self._waiting.setdefault(one.address, set())
                if not waiting:
                    self._spawn(self._gather(one.address))
                waiting.add(one.id)

    def lifecycle(self, subscription_id: str, event: str) -> None:
        """Tell its lifecycle address of an event; `subscriptionRemoved` ends it."""
        found = self.find(subscription_id)
        if event == "subscriptionRemoved":
            del self.open[found.id]
        if found.lifecycle_address:
            note = self._note(found) | {"lifecycleEvent": event}
            self._spawn(self._deliver(found.lifecycle_address, [note], 0.0))

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    @property
    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            self._client = httpx.AsyncClient(trust_env=False, timeout=_HANDSHAKE_S)
        return self._client

    def _expiry(self, text: object) -> float:
        try:
            at = datetime.fromisoformat(str(text)).replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise GraphFault(400, "InvalidRequest", "expirationDateTime is missing or malformed.") from None
        now = self._clock.now()
        if not now < at <= now + LIFETIME_MAX_S + 60:
            raise GraphFault(400, "ExtensionError", "Subscription expiration can only be 42300 minutes in the future.")
        return at

    async def _handshake(self, address: str) -> None:
        token = f"Validation: Testing client application reachability {secrets.token_hex(8)} +/="
        mark = "&" if "?" in address else "?"
        try:
            answer = await self._http.post(
                f"{address}{mark}validationToken={quote(token, safe='')}", headers={"Content-Type": "text/plain"}
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise GraphFault(400, "ValidationError", f"Subscription validation request failed: {error!r}.") from None
        plain = answer.headers.get("content-type", "").startswith("text/plain")
        if answer.status_code != 200 or not plain or answer.text != token:
            raise GraphFault(400, "ValidationError", "Subscription validation request failed: wrong answer.")

    def _note(self, one: Subscription) -> dict[str, Any]:
        return {
            "subscriptionId": one.id,
            "subscriptionExpirationDateTime": self._clock.iso(one.expires_at),
            "clientState": one.client_state,
            "changeType": "updated",
            "resource": one.resource,
            "tenantId": self._tenant,
            "resourceData": {"@odata.type": "#Microsoft.Graph.DriveItem"},
        }

    def _spawn(self, work: Any) -> None:
        if len(self._tasks) >= self._on_its_way_max:
            work.close()
            return
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _gather(self, address: str) -> None:
        await asyncio.sleep(self.manners.gather_s)
        told = [self.open[one] for one in self._waiting.pop(address, set()) if one in self.open]
        for one in told:
            one.told += 1
        notes = [self._note(one) for one in told]
        for _ in range(2 if self._random.random() < self.manners.repeat else 1):
            late = 0.2 if self._random.random() < self.manners.reorder else 0.0
            self._spawn(self._deliver(address, notes, late + self.manners.delay_s))

    async def _deliver(self, address: str, notes: list[dict[str, Any]], delay_s: float) -> None:
        receiver = self._receivers.setdefault(address, _Receiver())
        await asyncio.sleep(delay_s + (self.manners.slow_delay_s if receiver.slow else 0.0))
        for attempt in range(self.manners.tries):
            began = asyncio.get_running_loop().time()
            status = 0
            try:
                status = (await self._http.post(address, json={"value": notes})).status_code
            except httpx.HTTPError:
                pass
            receiver.replies.append(asyncio.get_running_loop().time() - began > self.manners.slow_s)
            if 200 <= status < 300:
                self.sent += 1
                return
            await asyncio.sleep(self.manners.retry_s * 2**attempt)
        self.failed += 1
