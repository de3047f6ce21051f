"""A Locust user that is one device, and what all devices of a run share: keys, history, latencies, who is connected.

A device does what the SDK does: it asks the API where to connect, opens a socket with the ticket, takes its events in
order, acks, and comes back when cut. Locust gets a sample for each event (`event delivered`, from publishing to the
application), for each socket (`socket welcomed`, from the first byte to the hub's first frame) and for each request.
"""

import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar, Final

import gevent
from locust import FastHttpUser, task
from locust.exception import StopUser

from device.actions import Delivery
from loadtests.driver.history import History
from loadtests.driver.latency import Latencies
from loadtests.gevent_device import DeviceEnded, GeventDevice, Place
from loadtests.gevent_link import NoLink
from shared.tokens import KeyRing

__all__ = ["DeviceUser", "LoadRun"]

TOKEN_LIFETIME_S: Final = 24 * 3600.0
REQUEST_DEADLINE_S: Final = 10.0
GO_DEADLINE_S: Final = 15.0
LINGER_S: Final = 1.0  # what was published in the moment of its going is recorded
_STEP_S: Final = 0.02


@dataclass
class LoadRun:
    """One run. Its devices are its own, so what they are shown is exactly what it publishes."""

    keys: KeyRing
    name: str = field(default_factory=lambda: f"locust-{secrets.token_hex(3)}")
    history: History = field(default_factory=History)
    latencies: Latencies = field(default_factory=Latencies)
    devices: list[GeventDevice] = field(default_factory=list)
    connected: dict[str, None] = field(default_factory=dict)  # ids, in the order of their first welcome
    gone: set[str] = field(default_factory=set)  # ids of those that were taken away, or are about to go
    sent: Counter[str] = field(default_factory=Counter)  # recorded for a device
    seen: Counter[str] = field(default_factory=Counter)  # shown to its application
    shown: int = 0

    @property
    def there(self) -> list[str]:
        """Devices that events are published to."""
        return [device_id for device_id in self.connected if device_id not in self.gone]

    @property
    def live(self) -> int:
        """How many of them have a welcomed socket."""
        return sum(device.live for device in self.devices if device.device_id not in self.gone)

    def take_away(self, device: GeventDevice) -> None:
        """Publish no more to it, wait until it has been shown what it was sent, let it ack and go."""
        self.gone.add(device.device_id)
        end = time.monotonic() + GO_DEADLINE_S
        gevent.sleep(LINGER_S)
        while self.seen[device.device_id] < self.sent[device.device_id] and time.monotonic() < end:
            gevent.sleep(_STEP_S)
        device.stop()

    def token(self, subject: str, scope: str) -> str:
        """A bearer token."""
        return self.keys.mint(subject=subject, scopes=frozenset({scope}), now=time.time(), lifetime_s=TOKEN_LIFETIME_S)


class DeviceUser(FastHttpUser):
    """One device for as long as the user lives."""

    run_of_all: ClassVar[LoadRun | None] = None  # set before users are made
    network_timeout = REQUEST_DEADLINE_S
    connection_timeout = REQUEST_DEADLINE_S
    _device: GeventDevice | None = None

    def stop(self, force: bool = False) -> bool:
        """Taken away while the run goes on: the device goes in order, in the time that the runner gives it."""
        if not force and self.run_of_all is not None and self._device is not None:
            gevent.spawn(self.run_of_all.take_away, self._device)
        return bool(super().stop(force))

    @task
    def be_a_device(self) -> None:
        """Until the run ends, or the hub says not to come back."""
        run = self.run_of_all
        if run is None:
            raise AssertionError("a run begins before its users")
        device_id = f"{run.name}-{len(run.devices)}"
        authorization = {"Authorization": f"Bearer {run.token(device_id, 'device')}", "Connection": "close"}

        def on_event(delivery: Delivery) -> None:
            latency_ms = (time.monotonic_ns() - delivery.event["data"]["sent_ns"]) / 1e6
            run.history.shown(device_id, delivery.event["id"])
            run.latencies.add(latency_ms)
            run.shown += 1
            run.seen[device_id] += 1
            self._sample("event delivered", latency_ms)

        def on_try(seconds: float, error: Exception | None) -> None:
            self._sample("socket welcomed", seconds * 1000, error)
            if error is None:
                run.connected.setdefault(device_id)

        device = GeventDevice(
            device_id, lambda: self._place(device_id, authorization), on_event, Random(device_id), on_try
        )
        run.devices.append(device)
        self._device = device
        try:
            device.run()
        except DeviceEnded as ended:
            self._sample("device ended", 0.0, ended)
        raise StopUser

    def _place(self, device_id: str, headers: dict[str, str]) -> Place:
        path = f"/api/v1/devices/{device_id}/connection"
        with self.client.get(path, name="GET connection", headers=headers, catch_response=True) as answer:
            if answer.status_code != 200:
                detail = f"HTTP {answer.status_code} {(answer.text or '')[:200]}".rstrip()
                answer.failure(detail)
                raise NoLink(f"no hub assigned: {detail}")
            found: dict[str, Any] = json.loads(answer.text or "")
        return Place([found["url"], *(other["url"] for other in found["alternatives"])], found["ticket"])

    def _sample(self, name: str, response_time_ms: float, error: Exception | None = None) -> None:
        self.environment.events.request.fire(
            request_type="WS",
            name=name,
            response_time=response_time_ms,
            response_length=0,
            exception=error,
            context={},
        )
