"""Channels of an emulated Google Drive: who is told that something changed, and in how bad a way.

A message says only that something changed. The first one of a channel is `sync`. Messages can be made to get lost, come
twice, come in the wrong order or late; a receiver that answers with an error is asked again a few times.
"""

import asyncio
import contextlib
import secrets
from dataclasses import dataclass
from email.utils import formatdate
from random import Random
from typing import Final

import httpx

from loadtests.emulators.clock import EmulatedClock
from loadtests.emulators.drive_corpus import DriveError

__all__ = ["LIFETIME_MAX_S", "Channel", "Channels", "HookFaults"]

LIFETIME_S: Final = 3600.0
LIFETIME_MAX_S: Final = 604_800.0
_CHANNELS_MAX: Final = 1000
# For some twenty seconds: Google goes on for longer.
_TRIES: Final = 8


@dataclass
class Channel:
    """Somebody who is told."""

    id: str
    address: str
    token: str
    resource_id: str
    resource_uri: str
    drive_id: str | None
    everywhere: bool
    expires_at: float
    messages: int = 0


@dataclass
class HookFaults:
    """How likely a message is lost, repeated or held back behind the next, and how long it takes."""

    drop: float = 0.0
    repeat: float = 0.0
    reorder: float = 0.0
    delay_s: float = 0.0


class Channels:
    """All channels, and one task per message on its way (bounded)."""

    def __init__(self, clock: EmulatedClock, *, seed: int = 0, on_its_way_max: int = 2000) -> None:
        self.open: dict[str, Channel] = {}
        self.faults = HookFaults()
        self.sent = 0
        self.failed = 0
        self._clock = clock
        self._random = Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_its_way_max = on_its_way_max
        self._http = httpx.AsyncClient(trust_env=False, timeout=10.0)

    def watch(
        self, body: dict[str, object], *, uri: str, drive_id: str | None, everywhere: bool, allow_http: bool
    ) -> Channel:
        """A new channel, whose first message goes out at once."""
        channel_id, address = str(body.get("id") or ""), str(body.get("address") or "")
        if body.get("type") not in ("web_hook", "webhook"):
            raise DriveError(400, "invalid", "Unknown channel type", location="type")
        if not channel_id or len(channel_id) > 64:
            raise DriveError(400, "required", "Channel id is missing or too long", location="id")
        if channel_id in self.open:
            raise DriveError(400, "channelIdNotUnique", f"Channel id {channel_id} not unique")
        if not address.startswith("https://") and not (allow_http and address.startswith("http://")):
            raise DriveError(400, "push.webhookUrlNotHttps", f"WebHook callback must be HTTPS: {address}")
        if len(str(body.get("token") or "")) > 256:
            raise DriveError(400, "invalid", "Channel token is too long", location="token")
        if len(self.open) >= _CHANNELS_MAX:
            raise DriveError(403, "channelLimitExceeded", "Too many channels")
        now = self._clock.now()
        asked = float(str(body["expiration"])) / 1000 if body.get("expiration") else now + LIFETIME_S
        made = Channel(
            channel_id,
            address,
            str(body.get("token") or ""),
            secrets.token_urlsafe(20),
            uri,
            drive_id,
            everywhere,
            min(asked, now + LIFETIME_MAX_S),
        )
        self.open[channel_id] = made
        self._tell(made, "sync")
        return made

    def stop(self, channel_id: str, resource_id: str) -> None:
        """No more messages."""
        found = self.open.get(channel_id)
        if found is None or found.resource_id != resource_id or found.expires_at <= self._clock.now():
            raise DriveError(404, "notFound", f"Channel '{channel_id}' not found for project")
        del self.open[channel_id]

    def changed(self, drive_id: str | None) -> None:
        """Something changed in a corpus."""
        for channel in list(self.open.values()):
            if channel.expires_at <= self._clock.now():
                del self.open[channel.id]
            elif channel.drive_id == drive_id or (channel.everywhere and channel.drive_id is None):
                self._tell(channel, "change")

    def _tell(self, channel: Channel, state: str) -> None:
        channel.messages += 1
        headers = {
            "X-Goog-Channel-ID": channel.id,
            "X-Goog-Channel-Expiration": formatdate(channel.expires_at, usegmt=True),
            "X-Goog-Resource-State": state,
            "X-Goog-Message-Number": str(channel.messages),
            "X-Goog-Resource-ID": channel.resource_id,
            "X-Goog-Resource-URI": channel.resource_uri,
        }
        if channel.token:
            headers["X-Goog-Channel-Token"] = channel.token
        if state == "change" and self._random.random() < self.faults.drop:
            return
        for _ in range(2 if self._random.random() < self.faults.repeat else 1):
            late = 0.2 if self._random.random() < self.faults.reorder else 0.0
            if len(self._tasks) < self._on_its_way_max:
                task = asyncio.get_running_loop().create_task(
                    self._deliver(channel.address, headers, late + self.faults.delay_s)
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _deliver(self, address: str, headers: dict[str, str], delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for attempt in range(_TRIES):
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._http.post(address, headers=headers)
                if answer.status_code in (200, 201, 202, 204, 102):
                    self.sent += 1
                    return
                if answer.status_code not in (500, 502, 503, 504):
                    break
            await asyncio.sleep(0.1 * 2**attempt)
        self.failed += 1

    async def close(self) -> None:
        """Give up what is on its way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._http.aclose()
