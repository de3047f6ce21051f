"""An SDK device that writes down what its application is shown and how it stands, and when; and events for it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import httpx

from device.client import Client
from device.event import Event
from device.route import State
from device.run import StateChange
from device.timing import Timing
from loadtests.chaos.faults import query
from loadtests.driver.history import History, Verdict
from loadtests.machine import Machine

__all__ = ["Shown", "WatchedDevice", "judge", "publish"]

_BATCH_EVENTS = 500
_BATCH_BYTES = 3 * 1024 * 1024
_ENVELOPE_BYTES = 250  # of a published item in the request, roughly


@dataclass(frozen=True, slots=True)
class Shown:
    """One event as the application got it. `at` is monotonic seconds, `state` how the device stood."""

    at: float
    event_id: str
    seq: int
    redelivered: bool
    state: State


@dataclass
class WatchedDevice:
    """`start()` connects, `stop()` leaves. The position is kept, so that the next start goes on."""

    machine: Machine
    device_id: str
    timing: Timing | None = None
    rand: Random | None = None
    folder: Path | None = None
    on_event: Callable[[Client, Event], Awaitable[None]] | None = None
    shown: list[Shown] = field(default_factory=list)
    states: list[tuple[float, State, str]] = field(default_factory=list)
    resets: int = 0

    def __post_init__(self) -> None:
        self.folder = self.folder or self.machine.folder / "devices" / self.device_id
        self._token = self.machine.token(self.device_id, "device", device_class="truck")
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Begin to connect."""
        self._client = Client(
            self.device_id,
            token=self._token,
            api=self.machine.api,
            folder=self.folder,
            timing=self.timing,
            rand=self.rand,
            on_state=self._on_state,
            on_reset=lambda _: self._on_reset(),
        )
        await self._client.start()
        self._task = asyncio.create_task(self._run(self._client), name=self.device_id)

    async def stop(self) -> None:
        """Ack what is finished and leave. Raises what ended the client."""
        task, self._task = self._task, None
        if task is None or self._client is None:
            return
        failed = task.done()
        if not failed:
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await self._client.close()
        if failed:
            task.result()

    @property
    def state(self) -> State:
        """How it stands now."""
        return self.states[-1][1] if self.states else State.CONNECTING

    async def until(self, condition: Callable[[], bool], deadline_s: float, what: str) -> float:
        """Wait for something that is about this device. Returns the seconds it took."""
        begun = time.monotonic()
        try:
            async with asyncio.timeout(deadline_s):
                while not condition():
                    if self._task is not None and self._task.done():
                        self._task.result()
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise TimeoutError(f"{self.device_id}: not within {deadline_s:.0f} s: {what}; {self}") from None
        return time.monotonic() - begun

    def first_after(self, at: float, state: State) -> Shown | None:
        """The first event that was shown after `at` while the device stood like that."""
        return next((one for one in self.shown if one.at > at and one.state is state), None)

    def __str__(self) -> str:
        last = self.states[-1] if self.states else None
        return f"{len(self.shown)} events shown, {self._client}, last state {last}"

    async def _run(self, client: Client) -> None:
        try:
            async for event in client:
                self.shown.append(
                    Shown(time.monotonic(), event.id, event.position.seq, event.redelivered, client.state.state)
                )
                if self.on_event is not None:
                    await self.on_event(client, event)
                self._news.set()
        finally:
            self._news.set()

    def _on_state(self, change: StateChange) -> None:
        self.states.append((time.monotonic(), change.state, change.detail))
        self._news.set()

    def _on_reset(self) -> None:
        self.resets += 1


async def publish(machine: Machine, devices: Sequence[str], count: int, *, size: int = 0) -> None:
    """Record `count` events, to the devices in turn, each with `size` bytes of padding in its data."""
    headers = {"Authorization": f"Bearer {machine.token('load', 'service')}"}
    step = max(1, min(_BATCH_EVENTS, _BATCH_BYTES // (size + _ENVELOPE_BYTES)))
    # Loopback without TLS: reading the system's certificates for each call would cost more than the call.
    async with httpx.AsyncClient(base_url=machine.api, timeout=30, headers=headers, verify=False) as client:
        for first in range(0, count, step):
            batch = [
                {
                    "device_id": devices[number % len(devices)],
                    "type": "LoadTest",
                    "data": {"number": number, "padding": "x" * size},
                }
                for number in range(first, min(first + step, count))
            ]
            answer = await client.post("/api/v1/events", json={"events": batch})
            answer.raise_for_status()
            wrong = [one for one in answer.json()["results"] if one["status"] != "recorded"]
            if wrong:
                raise RuntimeError(f"publish refused: {wrong[:3]}")


async def judge(machine: Machine, devices: Sequence[WatchedDevice]) -> Verdict:
    """What the log holds for these devices against what each was shown."""
    history = History()
    for device in devices:
        rows = await asyncio.to_thread(
            query, machine, "SELECT event_id FROM events WHERE device_id = $1 ORDER BY seq", device.device_id
        )
        history.recorded(device.device_id, [row["event_id"] for row in rows])
        for one in device.shown:
            history.shown(device.device_id, one.event_id)
    return history.judge()
