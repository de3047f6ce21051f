"""Every Redis key and channel, in one place. The braces are a hash tag: a slot's channels stay on one node."""

from typing import Final
from uuid import UUID

from shared.hash_slots import SLOTS

__all__ = [
    "call_bucket",
    "canary_channel",
    "feed_channel",
    "job_stream",
    "lease_lock",
    "notice_channel",
    "rate_bucket",
    "shared_rate_bucket",
    "slot_channel",
    "slot_of_channel",
    "template_channel",
    "template_entry",
]

_CHANNELS: Final = tuple(b"fw:{s%d}" % slot for slot in range(SLOTS))
_SLOT_OF: Final = {channel: slot for slot, channel in enumerate(_CHANNELS)}


def slot_channel(slot: int) -> bytes:
    """The sharded channel of a slot: `fw:{s17}`."""
    return _CHANNELS[slot]


def slot_of_channel(channel: bytes) -> int | None:
    """The slot of a slot channel, None for any other channel."""
    return _SLOT_OF.get(channel)


def canary_channel(hub: str, slot: int = 0) -> bytes:
    """Where a hub sends messages to itself, on the node that has this slot: `fw:{s0}:canary:hub-1`."""
    return b"%b:canary:%b" % (_CHANNELS[slot], hub.encode())


def notice_channel() -> bytes:
    """Where notices for devices go, read by every hub: `fw:{s0}:notices`."""
    return b"%b:notices" % _CHANNELS[0]


def feed_channel() -> bytes:
    """Where it is told that a cloud feed may have changes, read by every watcher: `fw:{s0}:feeds`."""
    return b"%b:feeds" % _CHANNELS[0]


def template_channel() -> bytes:
    """Where changes of templates are told, read by every API process: `fw:{s0}:templates`."""
    return b"%b:templates" % _CHANNELS[0]


def template_entry(template_id: UUID) -> str:
    """The answer that is kept of a template: `fw:template:1:<id>`; the number is that of the answer's form."""
    return f"fw:template:1:{template_id}"


def job_stream(queue: str) -> str:
    """The stream of hints for workers of a queue: `fw:jobs:requests`."""
    return f"fw:jobs:{queue}"


def lease_lock(name: str) -> str:
    """The lock that goes with a lease row of this name: `fw:lease:local/17`."""
    return f"fw:lease:{name}"


def rate_bucket(principal: str) -> str:
    """The token bucket of a principal: `fw:rate:device:truck-7`."""
    return f"fw:rate:{principal}"


def call_bucket(tenant: str) -> str:
    """The budget of calls of one tenant at a cloud provider: `fw:calls:graph:contoso.example`."""
    return f"fw:calls:{tenant}"


def shared_rate_bucket() -> str:
    """The token bucket that all principals share: `fw:rates`."""
    return "fw:rates"
