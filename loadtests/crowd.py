"""Devices that come and go while events flow to those that are there; what each was sent and shown is always known.

A device that shall go gets no more events, is shown what it was sent, acks and leaves for good. So whatever is lost is
lost for another reason than its going.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from random import Random
from typing import Final

import httpx

from loadtests.driver.fleet import Device, Fleet, FleetOptions
from loadtests.driver.publications import Publications
from loadtests.driver.run import Target, post_batch

__all__ = ["Crowd"]

_STEP_S: Final = 0.02
_LINGER_S: Final = 1.0  # what was published in the moment of its going is recorded
GO_DEADLINE_S: Final = 30.0


class Crowd:
    """`run()` publishes and lets devices go until `finish()`; `resize()` says how many there shall be."""

    def __init__(self, target: Target, *, run: str, most: int, rate: float) -> None:
        """Devices come where the API assigns them. `rate` is events per second over all that are there."""
        names = [f"{run}-{number}" for number in range(most)]
        self._target = target
        self._tokens = {name: target.token(name, "device") for name in names}
        self._client = httpx.AsyncClient(base_url=target.api, timeout=10.0, trust_env=False)
        self.fleet = Fleet(
            names, lambda name: ("", self._tokens[name]), FleetOptions(jitter_s=0.5), Random(run), assign=self._assign
        )
        self.fleet.on_event = self._on_event
        self.publications = Publications(self.fleet.history, run=run, rate=rate)
        self._spare = list(reversed(self.fleet.devices))
        self._here: list[Device] = []
        self._going: list[tuple[float, Device]] = []
        self._finishing = False
        self._sent: Counter[str] = Counter()
        self._shown: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._here)

    @property
    def here(self) -> Sequence[Device]:
        """Devices that shall be connected."""
        return self._here

    @property
    def welcomed(self) -> int:
        """How many of them are."""
        return sum(device.welcomed for device in self._here)

    def resize(self, wanted: int) -> None:
        """Let devices come or go, at once."""
        while len(self._here) < wanted and self._spare:
            device = self._spare.pop()
            self._here.append(device)
            self.fleet.start(device)
        while len(self._here) > wanted:
            # Any of them, so that every hub loses some.
            place = self.fleet.rand.randrange(len(self._here))
            self._here[place], self._here[-1] = self._here[-1], self._here[place]
            self._going.append((time.monotonic(), self._here.pop()))

    async def run(self) -> None:
        """Until `finish()`, and then to the answer to what is under way. Raises PublishRefused."""
        headers = {"Authorization": f"Bearer {self._target.token('load-ramp', 'service')}"}
        while not self._finishing:
            now = time.monotonic()
            self._let_go(now)
            there = [device.device_id for device in self._here if device.welcomed]
            batch = self.publications.due(there, now=now, sent_ns=time.monotonic_ns())
            if not batch:
                await asyncio.sleep(_STEP_S)
                continue
            self._client.headers.update(headers)
            self.publications.answered(batch, await post_batch(self._client, batch, self.publications))
            self._sent.update(str(item["device_id"]) for item in batch)

    def finish(self) -> None:
        """Publish no more."""
        self._finishing = True

    async def all_shown(self, deadline_s: float) -> bool:
        """Wait until every event was shown. Publish no more before."""
        return await self.fleet.until(lambda: self._shown.total() >= self._sent.total(), deadline_s)

    async def close(self) -> None:
        """Close every socket."""
        await self.fleet.stop()
        await self._client.aclose()

    def _let_go(self, now: float) -> None:
        staying = []
        for since, device in self._going:
            has_all = self._shown[device.device_id] >= self._sent[device.device_id]
            if now - since > GO_DEADLINE_S or (has_all and now - since > _LINGER_S):
                device.leave()
            else:
                staying.append((since, device))
        self._going = staying

    def _on_event(self, device_id: str, payload: bytes) -> None:
        self._shown[device_id] += 1

    async def _assign(self, device_id: str) -> list[str]:
        """Raises OSError."""
        headers = {"Authorization": f"Bearer {self._tokens[device_id]}"}
        with suppress(httpx.HTTPError):
            answer = await self._client.get(f"/api/v1/devices/{device_id}/connection", headers=headers)
            if answer.status_code == 200:
                found = answer.json()
                return [found["url"], *(other["url"] for other in found["alternatives"])]
        raise OSError("no hub assigned")
