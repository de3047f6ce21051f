"""What is done to devices and hubs while a Locust run goes on, by its shape, and what was seen of it.

Runs in a greenlet of its own from the first device on. A shape that needs a hub's operations port finds it in the home
of what runs on this machine.
"""

import json
import time
import urllib.request
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import gevent

from loadtests.device_user import LoadRun
from loadtests.shapes import Shape
from loadtests.vitals import Series, read_vitals, rising

__all__ = ["Disturbance"]

CHURN_S: Final = 5.0
FINISH_S: Final = 20.0  # for what was begun in time
SAMPLES_MIN: Final = 40
_STEP_S: Final = 0.02


class Disturbance:
    """`start()` when the run begins, `stop()` before it is judged; then `failures` and `figures` say what was seen."""

    def __init__(
        self, shape: Shape, run: LoadRun, *, seconds: float, ops: Mapping[str, int], token: str | None
    ) -> None:
        self.failures: list[str] = []
        self.figures: dict[str, Any] = {"shape": str(shape)}
        self._run = run
        self._seconds = seconds
        self._ops = ops
        self._token = token
        self._rand = Random(run.name)
        self._series: dict[str, Series] = {}
        self._work = {Shape.STORM: self._storm, Shape.DRAIN: self._drain, Shape.SOAK: self._soak}.get(shape)
        self._greenlet: gevent.Greenlet | None = None
        self._begun = time.monotonic()

    def start(self) -> None:
        """Begin."""
        self._begun = time.monotonic()
        if self._work is not None:
            self._greenlet = gevent.spawn(self._guarded, self._work)

    def stop(self) -> None:
        """Let it come to its end, but not for long; what should have happened and did not is a failure."""
        if self._greenlet is not None:
            if self._work != self._soak:
                self._greenlet.join(timeout=FINISH_S)
            self._greenlet.kill()
        if self._series:
            up = rising(self._series)
            self.failures += [f"{name} rises" for name in up]
            self.figures["vitals"] = {name: [one.seconds, one.values] for name, one in self._series.items()}
        if self._work == self._storm and "storm_s" not in self.figures:
            self.failures.append("not every device came back after the storm")
        if self._work == self._drain and "drained_s" not in self.figures:
            self.failures.append("the drained hub did not come back")

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it was, the run must fail by it
            self.failures.append(repr(error))

    def _storm(self) -> None:
        self._sleep_until(0.5)
        run, began = self._run, time.monotonic()
        before = sum(device.sockets for device in run.devices)
        cut = [device for device in run.devices if device.live]
        for device in cut:
            device.cut()
        self._wait(lambda: sum(device.sockets for device in run.devices) >= before + len(cut))
        self._wait(lambda: run.live >= len(run.there))
        self.figures |= {"storm_devices": len(cut), "storm_s": round(time.monotonic() - began, 3)}

    def _drain(self) -> None:
        self._sleep_until(1 / 3)
        name, port = next(iter(self._ops.items()))
        instance, began = self._ask(port, "GET", "/control/hub")["instance"], time.monotonic()
        sockets = sum(device.sockets for device in self._run.devices)
        self.figures["drained_hub"] = name
        self._ask(port, "POST", "/control/drain")

        def is_new() -> bool:
            try:
                return bool(self._ask(port, "GET", "/control/hub")["instance"] != instance)
            except OSError:
                return False

        self._wait(is_new)
        moved = sum(device.sockets for device in self._run.devices) - sockets
        self.figures |= {"drained_s": round(time.monotonic() - began, 3), "drained_devices": moved}

    def _soak(self) -> None:
        every_s = min(CHURN_S, self._seconds / SAMPLES_MIN)
        cut_at = self._begun + CHURN_S
        while True:
            gevent.sleep(every_s)
            now = time.monotonic()
            for name, port in self._ops.items():
                for what, value in read_vitals(port, self._token).items():
                    self._series.setdefault(f"{name} {what}", Series()).add(now - self._begun, value)
            if now >= cut_at and self._run.devices:
                cut_at = now + CHURN_S
                for device in self._rand.sample(self._run.devices, max(1, len(self._run.devices) // 100)):
                    device.cut()

    def _ask(self, port: int, method: str, path: str) -> dict[str, Any]:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
        if self._token:
            request.add_header("Authorization", f"Bearer {self._token}")
        with urllib.request.urlopen(request, timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def _sleep_until(self, part: float) -> None:
        gevent.sleep(max(0.0, self._begun + part * self._seconds - time.monotonic()))

    @staticmethod
    def _wait(condition: Callable[[], bool]) -> None:
        """Until it holds; whoever stops this has the deadline."""
        while not condition():
            gevent.sleep(_STEP_S)
