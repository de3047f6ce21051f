"""Events and devices for the tests of the store."""

from typing import Any

from shared.protocol.event import body_hash, encode_event
from shared.store import devices
from shared.store.log import NewEvent
from shared.store.pool import Pool


def event(device_id: str, event_id: str, data: dict[str, Any] | None = None) -> NewEvent:
    """An event whose content is `data`, recorded under its id."""
    content = data or {}
    body = encode_event(event_id=event_id, event_type="T", source="/test", time="2026-01-01T00:00:00Z", data=content)
    return NewEvent(device_id, event_id, "T", body, body_hash("T", content))


async def make_devices(pool: Pool, *device_ids: str) -> None:
    """Devices that exist."""
    for device_id in device_ids:
        await devices.ensure(pool, device_id, "truck")
