"""Devices connected each to the hub that owns its slot, and events to them at a steady rate until told to stop."""

import asyncio
import secrets
import time
from random import Random
from typing import Final

import httpx

from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.publications import Publications
from loadtests.driver.run import Target, post_batch
from loadtests.machine import Machine
from shared.hash_slots import owner, slot_of

__all__ = ["Stream"]

_SENT: Final = b'"sent_ns":'


class Stream:
    """`connect()`, then `run()` as a task; the fleet's history judges."""

    def __init__(self, machine: Machine, devices: int, rate: float) -> None:
        run = f"stream-{secrets.token_hex(3)}"
        self.names = [f"{run}-{number}" for number in range(devices)]
        self._target = Target(machine.api, machine.hubs, machine.keys)
        self._hubs = hubs = {f"hub-{number}": url for number, url in enumerate(machine.hubs, 1)}
        tokens = {name: self._target.token(name, "device") for name in self.names}
        urls = {name: f"{hubs[self.hub_of(name)].rstrip('/')}/v1/socket" for name in self.names}
        self.fleet = Fleet(self.names, lambda name: (urls[name], tokens[name]), FleetOptions(), Random(run))
        self.fleet.on_event = self._on_event
        self.publications = Publications(self.fleet.history, run=run, rate=rate)
        self.samples: list[tuple[float, float]] = []  # sent at, late by
        self.stopping = False

    def hub_of(self, device_id: str) -> str:
        """The hub that owns the device's slot."""
        found = owner(slot_of(device_id), self._hubs)
        assert found is not None, "there are hubs"
        return found

    def _on_event(self, device_id: str, payload: bytes) -> None:
        start = payload.index(_SENT) + len(_SENT)
        digits = payload[start : start + 20]
        sent = int(digits[: len(digits) - len(digits.lstrip(b"0123456789"))]) / 1e9
        self.samples.append((sent, time.monotonic() - sent))

    async def connect(self) -> None:
        """All devices."""
        self.fleet.start_all()
        if not await self.fleet.all_welcomed(60.0):
            raise RuntimeError(f"only {self.fleet.totals.welcomed} of {len(self.names)} devices were welcomed")

    async def run(self) -> None:
        """Publish until `stopping`."""
        headers = {"Authorization": f"Bearer {self._target.token('bus-faults', 'service')}"}
        async with httpx.AsyncClient(
            base_url=self._target.api, timeout=10.0, headers=headers, trust_env=False
        ) as client:
            while not self.stopping:
                batch = self.publications.due(self.names, now=time.monotonic(), sent_ns=time.monotonic_ns())
                if batch:
                    self.publications.answered(batch, await post_batch(client, batch, self.publications))
                else:
                    await asyncio.sleep(0.005)

    def latest(self, since: float, until: float) -> float:
        """How late the latest of the events sent in that time came."""
        return max((late for sent, late in self.samples if since <= sent < until), default=0.0)
