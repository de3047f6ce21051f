"""Postgres is put back from a copy that lacks the last events: devices must be told, nothing skipped in silence.

The worst case of the kind: a file-level copy keeps system id and timeline, and the numbers that were lost are given
again to new events. Every device saw the lost events, so its position looks like one of the restored log.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from loadtests.chaos.__main__ import Fleet
from loadtests.chaos.faults import query
from loadtests.machine import Machine, running_machine

DEVICES = 20
EACH = 5


def publish(machine: Machine, names: list[str], label: str) -> None:
    """Some events for every device, repeated under their keys until answered."""
    token = machine.token("load", "service")
    events = [
        {
            "device_id": name,
            "type": "LoadTest",
            "id": f"{label}-{name}-{number}",
            "data": {"sent_ns": time.monotonic_ns()},
        }
        for name in names
        for number in range(EACH)
    ]
    end = time.monotonic() + 60
    while True:
        try:
            answer = httpx.post(
                f"{machine.api}/api/v1/events",
                json={"events": events},
                headers={"Authorization": f"Bearer {token}"},
                timeout=10,
            )
            if answer.status_code == 200:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > end:
            raise RuntimeError("publish was not answered for 60 s")
        time.sleep(0.1)


def with_postgres_down(machine: Machine, data: Path, change: Any) -> None:
    """kill -9 Postgres, change its files while the supervisor is held, let it be started again."""
    os.kill(machine.process.pid, signal.SIGSTOP)
    try:
        pid = machine.kill("postgres")
        while _runs(pid):
            time.sleep(0.02)
        time.sleep(0.5)  # its children see that it is gone
        change(data)
    finally:
        os.kill(machine.process.pid, signal.SIGCONT)


def _runs(pid: int) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/exe").readlink())
    except OSError:  # gone, or only its entry is left until its parent asks
        return False


def copy_aside(data: Path) -> None:
    """A cold copy, owners and modes kept."""
    subprocess.run(["cp", "-a", str(data), f"{data}.copy"], check=True)


def put_back(data: Path) -> None:
    """The copy takes the place of what came after it."""
    shutil.rmtree(data)
    Path(f"{data}.copy").rename(data)


def main() -> int:
    """Run, print, save."""
    console = Console()
    names = [f"truck-{number}" for number in range(DEVICES)]
    with running_machine() as machine:
        fleet = Fleet(machine, names)
        try:
            if not fleet.wait_for("live", DEVICES, 60):
                raise RuntimeError("devices did not come live")
            data = Path(query(machine, "SHOW data_directory")[0][0])
            publish(machine, names, "kept")
            if not fleet.wait_for("count", DEVICES * EACH, 30):
                raise RuntimeError("events did not arrive")
            time.sleep(1)  # acks are gathered
            with_postgres_down(machine, data, copy_aside)
            publish(machine, names, "lost")
            if not fleet.wait_for("count", 2 * DEVICES * EACH, 60):
                raise RuntimeError("events did not arrive after the first restart")
            console.print(f"{2 * DEVICES * EACH} events shown; the copy holds half of them")
            with_postgres_down(machine, data, put_back)
            publish(machine, names, "new")
            arrived = fleet.wait_for("count", 3 * DEVICES * EACH, 90)
            time.sleep(3)
            shown = fleet.stop()
        except BaseException:
            fleet.abandon()
            raise
        epochs = {row["epoch"] for row in query(machine, "SELECT epoch FROM devices")}
        skipped = [
            f"{name}: {one}"
            for name in names
            for one in (f"new-{name}-{number}" for number in range(EACH))
            if one not in {event_id for event_id, _, _ in shown["shown"][name]}
        ]
        repeated = sum(len(events) - len({event_id for event_id, _, _ in events}) for events in shown["shown"].values())
    console.print(
        f"epochs {sorted(epochs)}, {shown['resets']} resets told, {len(skipped)} skipped, {repeated} repeated"
    )
    passed = arrived and not skipped and not repeated and min(epochs) > 1 and shown["resets"] >= DEVICES
    console.print(json.dumps({"passed": passed, "skipped": skipped[:5]}))
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
