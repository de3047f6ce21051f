"""Simulated devices for `fleetwire up --devices N`: real clients in one process, which take and ack what they are sent.

They are ready when every one has been welcomed once. Nothing of theirs is kept: each run begins at what was acked.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from device.client import Client
from device.route import State
from device.run import Reset, StateChange
from infra.onebox.child import ChildSpec
from infra.onebox.ports import PortWish, settle
from infra.onebox.readiness import wait_ready
from infra.onebox.spawn import launch_arguments
from shared import lifecycle
from shared.clock import wall
from shared.keys import TokenKeySettings
from shared.lifecycle import PARENT_PID_VARIABLE, Stop
from shared.settings import SettingsError, bounded_int, load, setting
from shared.telemetry import logs
from shared.telemetry.health import OpsServer, OpsSettings, Readiness
from shared.telemetry.logs import LogSettings
from shared.tokens import KeyRing

__all__ = ["DEVICES_MAX", "main", "simulated_devices"]

DEVICES_MAX: Final = 2000
TOKEN_LIFETIME_S: Final = 3600.0
REPORT_EVERY_S: Final = 30.0
_CLASSES: Final = ("truck", "warehouse", "office")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class SimulatedSettings(TokenKeySettings, OpsSettings, LogSettings):
    """What the simulated devices are told."""

    api_url: str = setting("FLEETWIRE_API_URL", help="Address of the API.")
    devices: int = setting("FLEETWIRE_SIMULATED_DEVICES", help="How many devices.", parse=bounded_int(1, DEVICES_MAX))


def simulated_devices(count: int, api_url: str, environment: Mapping[str, str]) -> ChildSpec:
    """How to run them as a child of this process."""
    [ops_port] = settle([PortWish("the simulated devices' operations", 0, "")])
    return ChildSpec(
        name="devices",
        arguments=lambda: launch_arguments([sys.executable, "-m", "infra.onebox.simulated"]),
        environment={
            **environment,
            "FLEETWIRE_API_URL": api_url,
            "FLEETWIRE_SIMULATED_DEVICES": str(count),
            "FLEETWIRE_OPS_PORT": str(ops_port),
            PARENT_PID_VARIABLE: str(os.getpid()),
        },
        wait_ready=lambda: wait_ready(ops_port),
    )


class _Fleet:
    """The clients of this process and what they have seen."""

    def __init__(self, settings: SimulatedSettings, keys: KeyRing) -> None:
        self._settings = settings
        self._keys = keys
        self._welcomed: set[str] = set()
        self.events = 0

    def readiness(self) -> Readiness:
        missing = self._settings.devices - len(self._welcomed)
        return Readiness(missing == 0, (f"{missing} devices have no connection yet",) if missing else ())

    async def run_device(self, number: int) -> None:
        device_id = f"sim-{number:04d}"
        device_class = _CLASSES[number % len(_CLASSES)]

        def token() -> str:
            return self._keys.mint(
                subject=device_id,
                scopes=frozenset({"device"}),
                now=wall(),
                lifetime_s=TOKEN_LIFETIME_S,
                device_class=device_class,
            )

        def on_state(change: StateChange) -> None:
            if change.state in (State.LIVE, State.REST):
                self._welcomed.add(device_id)

        def on_reset(reset: Reset) -> None:
            _log.warning("reset", device_id=device_id, reason=reset.reason)

        async with Client(
            device_id, api=self._settings.api_url, token=token, on_state=on_state, on_reset=on_reset
        ) as client:
            async for _ in client:
                self.events += 1

    async def run(self, stop: Stop) -> None:
        devices = [
            asyncio.create_task(self.run_device(n), name=f"sim-{n:04d}") for n in range(1, self._settings.devices + 1)
        ]
        report = asyncio.create_task(self._report())
        waiting = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait([*devices, report, waiting], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*devices, report, waiting):
                task.cancel()
            await asyncio.gather(*devices, report, waiting, return_exceptions=True)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            _log.info("simulated devices", welcomed=len(self._welcomed), events=self.events)


def main(environ: Mapping[str, str]) -> int:
    """Run until stopped."""
    try:
        settings = load(SimulatedSettings, environ)
        keys = settings.token_key_ring()
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    logs.configure("devices", settings.log_level, json=settings.log_format == "json")

    async def work(stop: Stop) -> int:
        fleet = _Fleet(settings, keys)
        ops = OpsServer(settings.ops_host, settings.ops_port, process="devices", readiness=fleet.readiness)
        await ops.start()
        try:
            await fleet.run(stop)
        finally:
            await ops.close()
        return 0

    return lifecycle.run(work, environ=environ)


if __name__ == "__main__":
    sys.exit(main(os.environ))
