"""The events of a fault run: half by files moved into the cloud folder, half by REST, at a steady rate.

A REST publish is repeated under its key until it is answered, as every sender should; a file is moved in once.
"""

import itertools
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path

import httpx

from loadtests.machine import Machine

__all__ = ["Flow"]

_BATCH_S = 0.05
PUBLISH_DEADLINE_S = 120.0


class Flow:
    """Events at `rate` per second, to the devices in turn, until stopped."""

    def __init__(self, machine: Machine, devices: Sequence[str], rate: float) -> None:
        self._machine = machine
        self._devices = devices
        self._rate = rate
        self._stop = threading.Event()
        self._token = machine.token("load", "service")
        self._drafts = machine.cloud.parent / f"{machine.cloud.name}-load"
        self._drafts.mkdir(exist_ok=True)
        self.files: dict[str, list[str]] = {device: [] for device in devices}
        self.published: dict[str, list[str]] = {device: [] for device in devices}
        self.failures: list[str] = []
        self.retries = 0
        self.count = 0
        self._file_thread = threading.Thread(target=self._guarded, args=(self._drop_files,), daemon=True)
        self._rest_thread = threading.Thread(target=self._guarded, args=(self._publish,), daemon=True)

    def start(self) -> None:
        """Begin."""
        self._file_thread.start()
        self._rest_thread.start()

    def stop(self) -> None:
        """End, and wait until the last publish was answered."""
        self._stop.set()
        self._file_thread.join(PUBLISH_DEADLINE_S)
        self._rest_thread.join(PUBLISH_DEADLINE_S)

    def _guarded(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must say so
            self.failures.append(repr(error))

    def _due(self, start: float, done: int) -> int:
        return int((time.monotonic() - start) * self._rate / 2) - done

    def _drop_files(self) -> None:
        start, turn = time.monotonic(), itertools.cycle(self._devices)
        for number in itertools.count():
            while self._due(start, number) < 1:
                if self._stop.wait(0.005):
                    return
            device = next(turn)
            name = f"r{number}.noop"
            draft = self._drafts / name
            draft.write_bytes(b"%d" % number)
            folder = self._machine.cloud / "Requests" / device
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / name
            draft.rename(target)
            self.files[device].append(name)
            self.count += 1

    def _publish(self) -> None:
        start, turn, number = time.monotonic(), itertools.cycle(self._devices), 0
        with httpx.Client(base_url=self._machine.api, timeout=10) as client:
            while not self._stop.wait(_BATCH_S):
                count = min(self._due(start, number), 500)
                if count < 1:
                    continue
                batch: list[dict[str, object]] = []
                for _ in range(count):
                    device = next(turn)
                    event_id = uuid.uuid4().hex
                    data = {"sent_ns": time.monotonic_ns()}
                    batch.append({"device_id": device, "type": "LoadTest", "id": event_id, "data": data})
                number += count
                self._send(client, batch)

    def _send(self, client: httpx.Client, batch: list[dict[str, object]]) -> None:
        results = self._answered(client, batch)
        for item, result in zip(batch, results, strict=True):
            if result["status"] not in ("recorded", "duplicate"):
                raise RuntimeError(f"publish refused: {result}")
            self.published[str(item["device_id"])].append(str(item["id"]))
            self.count += 1

    def _answered(self, client: httpx.Client, batch: list[dict[str, object]]) -> list[dict[str, object]]:
        end, detail = time.monotonic() + PUBLISH_DEADLINE_S, ""
        headers = {"Authorization": f"Bearer {self._token}"}
        while time.monotonic() < end:
            try:
                answer = client.post("/api/v1/events", json={"events": batch}, headers=headers)
                if answer.status_code == 200:
                    results: list[dict[str, object]] = answer.json()["results"]
                    return results
                detail = answer.text
            except httpx.HTTPError as error:
                detail = repr(error)
            self.retries += 1
            time.sleep(0.1)
        raise RuntimeError(f"publish not answered: {detail}")


def response_folders(cloud: Path, device: str) -> list[Path]:
    """The response folders of one device."""
    folder = cloud / "Responses" / device
    return [entry for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []
