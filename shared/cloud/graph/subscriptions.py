"""Subscriptions to a drive's root: only `updated` can be asked for, and a call of the hook says no more than that.

Graph makes one only after the address has answered its handshake. It lives for less than 30 days and can be renewed.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from shared import clock
from shared.cloud.errors import NotFound, StoreUnavailable
from shared.cloud.graph import wire
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.items import Items
from shared.cloud.http import Answer
from shared.cloud.provider import Subscription

__all__ = ["LIFETIME_MAX_S", "Subscriptions"]

LIFETIME_MAX_S: Final = 42_300 * 60.0
_MARGIN_S: Final = 300.0


class Subscriptions:
    """Of one drive."""

    def __init__(self, client: GraphClient, items: Items, *, wall: Callable[[], float] = clock.wall) -> None:
        self._client = client
        self._items = items
        self._wall = wall

    async def subscribe(self, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """A new one. One whose answer is lost ends by itself; its calls are hints like others."""
        body = {
            "changeType": "updated",
            "notificationUrl": address,
            "lifecycleNotificationUrl": address,
            "resource": f"{self._items.drive}/root",
            "expirationDateTime": self._expiry(lifetime_s),
            "clientState": secret,
            "latestSupportedTlsVersion": "v1_2",
        }
        answer = await self._client.call(
            "subscription.create", "POST", "/subscriptions", what="a subscription", body=body, ok=(200, 201)
        )
        return self._read(answer)

    async def renew(self, subscription: Subscription, address: str, secret: str, *, lifetime_s: float) -> Subscription:
        """The same for longer; another one when it is gone."""
        try:
            answer = await self._client.call(
                "subscription.renew",
                "PATCH",
                f"/subscriptions/{subscription.subscription_id}",
                what="a subscription",
                body={"expirationDateTime": self._expiry(lifetime_s)},
                repeatable=True,
            )
        except NotFound:
            return await self.subscribe(address, secret, lifetime_s=lifetime_s)
        return self._read(answer)

    async def end(self, subscription: Subscription) -> None:
        """One that is gone already is no error."""
        try:
            await self._client.call(
                "subscription.delete",
                "DELETE",
                f"/subscriptions/{subscription.subscription_id}",
                what="a subscription",
                ok=(200, 204),
            )
        except NotFound:
            pass

    def _expiry(self, lifetime_s: float) -> str:
        ends = self._wall() + min(lifetime_s, LIFETIME_MAX_S - _MARGIN_S)
        return datetime.fromtimestamp(ends, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")

    def _read(self, answer: Answer) -> Subscription:
        row = answer.decoded(wire.SubscriptionRow, store=self._client.store)
        ends = wire.at_of(row.expiration_date_time)
        if ends is None or not row.id.replace("-", "").isalnum():
            raise StoreUnavailable(f"{self._client.store}: a subscription without an id or an end")
        return Subscription(row.id, None, ends)
