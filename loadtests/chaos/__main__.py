"""`make chaos`: events flow to SDK devices while one part after another is killed or stopped; then all is counted.

Passes when every device's application was shown exactly what its log holds, once and in order; every file dropped was
answered by one event and one response.json; every publish that was answered is in the log; and nobody who was not
itself on the stopped hub waited longer than the bound.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from rich.console import Console

from loadtests.chaos.faults import FAULTS, Fault, query
from loadtests.chaos.flow import Flow, response_folders
from loadtests.driver.history import History, Verdict
from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port
from loadtests.process import start_python

RESULTS = Path(__file__).parents[1] / "results"
OTHERS_WAIT_MAX_MS = 6000.0
CATCH_UP_S = 120.0


class Fleet:
    """The process that holds the SDK devices."""

    def __init__(self, machine: Machine, devices: Sequence[str]) -> None:
        self.devices = devices
        self._process = start_python("loadtests.chaos.devices", log=(machine.folder / "devices.log").open("wb"))
        tokens = {device: machine.token(device, "device", device_class="truck") for device in devices}
        orders = {"api": machine.api, "folder": str(machine.folder / "devices"), "tokens": tokens}
        self._tell(json.dumps(orders))
        self._read()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the devices' process ended: see devices.log")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def report(self) -> dict[str, Any]:
        """Counts, and latency since the last report."""
        self._tell("report")
        return self._read()

    def wait_for(self, condition: str, wanted: int, deadline_s: float) -> bool:
        """Wait until `count` events were shown, or that many devices are in a state."""
        end = time.monotonic() + deadline_s
        while time.monotonic() < end:
            report = self.report()
            have = report["count"] if condition == "count" else report["states"].get(condition, 0)
            if have >= wanted:
                return True
            time.sleep(0.25)
        return False

    def stop(self) -> dict[str, Any]:
        """Everything that was shown."""
        self._tell("stop")
        answer = self._read()
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        return answer

    def abandon(self) -> None:
        """After a failure."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def judge(machine: Machine, devices: Sequence[str], shown: dict[str, Any]) -> Verdict:
    """What applications were shown against what the log holds."""
    history = History()
    for row in query(
        machine, "SELECT device_id, event_id FROM events WHERE device_id = ANY($1) ORDER BY device_id, seq", devices
    ):
        history.recorded(row["device_id"], [row["event_id"]])
    for device, events in shown.items():
        for event_id, _, _ in events:
            history.shown(device, event_id)
    return history.judge()


def check_files(machine: Machine, flow: Flow) -> list[str]:
    """One event and one response.json for every file dropped, and every answered publish in the log."""
    problems = []
    rows = query(machine, "SELECT device_id, event_id, type, body FROM events")
    answered: Counter[tuple[str, str]] = Counter()
    ids = {(row["device_id"], row["event_id"]) for row in rows}
    for row in rows:
        if row["type"] in ("ResponseReady", "RequestFailed"):
            request = json.loads(row["body"])["data"].get("request") or {}
            answered[row["device_id"], str(request.get("name"))] += 1
    for device, names in flow.files.items():
        folders = Counter(folder.name.rsplit(".", 1)[0] for folder in response_folders(machine.cloud, device)
                          if (folder / "response.json").is_file())  # fmt: skip
        for name in names:
            if answered[device, name] != 1:
                problems.append(f"{device}/{name}: {answered[device, name]} events")
            if folders[name.rsplit(".", 1)[0]] != 1:
                problems.append(f"{device}/{name}: {folders[name.rsplit('.', 1)[0]]} response.json")
    for device, published in flow.published.items():
        problems += [f"{device}: publish {one} is not in the log" for one in published if (device, one) not in ids]
    return problems


def hubs_of(machine: Machine) -> dict[str, str | None]:
    """Where each device is connected now."""
    return {row["device_id"]: row["hub"] for row in query(machine, "SELECT device_id, hub FROM cursors")}


def run(faults: Sequence[Fault], *, devices: int, rate: float, console: Console, keep: bool) -> dict[str, Any]:
    """One schedule of faults on a fresh machine."""
    names = [f"truck-{number}" for number in range(devices)]
    steps: list[dict[str, Any]] = []
    with running_machine(keep=keep, FLEETWIRE_WORKER_NOOP="1", FLEETWIRE_HUB_FLAPS_MAX="0") as machine:
        for number in (2,):
            machine.add(
                "worker-1", "worker", FLEETWIRE_WORKER_NAME=f"worker-{number}", FLEETWIRE_OPS_PORT=str(free_port())
            )
            machine.add(
                "watcher-1", "watcher", FLEETWIRE_WATCHER_NAME=f"watcher-{number}", FLEETWIRE_OPS_PORT=str(free_port())
            )
        fleet = Fleet(machine, names)
        try:
            if not fleet.wait_for("live", devices, 60):
                raise RuntimeError(f"not all devices came live: {fleet.report()['states']}")
            flow = Flow(machine, names, rate)
            flow.start()
            for fault in faults:
                where = hubs_of(machine)
                fleet.report()
                console.print(f"[bold]{fault.name}[/bold] …", end=" ")
                note = fault.do(machine)
                report = fleet.report()
                time.sleep(2)
                after = fleet.report()["latency"]
                slowest = {
                    name: late
                    for name, late in report["slowest_ms"].items()
                    if note.hub is None or where[name] != note.hub
                }
                others = max(slowest.values(), default=0.0)
                step = {
                    "fault": fault.name, "others_max_ms": round(others), "latency": report["latency"],
                    "after": after,
                    "states": report["states"], "resets": report["resets"], "failed": report["failed"], **note.facts,
                }  # fmt: skip
                steps.append(step)
                console.print(
                    f"others waited at most {others / 1000:.2f} s, p50 {report['latency']['p50_ms']:.0f} ms "
                    f"{note.facts or ''} {dict(report['states'])}, then p99 {after['p99_ms']:.0f} ms"
                )
            flow.stop()
            caught_up = fleet.wait_for("count", flow.count, CATCH_UP_S)
            shown = fleet.stop()
        except BaseException:
            fleet.abandon()
            raise
        verdict = judge(machine, names, shown["shown"])
        problems = check_files(machine, flow) + flow.failures
        slow = [step["fault"] for step in steps if step["others_max_ms"] > OTHERS_WAIT_MAX_MS]
        redelivered = sum(again for events in shown["shown"].values() for _, _, again in events)
        console.print(str(verdict))
        console.print(f"{sum(map(len, flow.files.values())):,} files, {len(problems)} problems {problems[:5]}")
        passed = verdict.passed and not problems and not slow and caught_up
        if not passed and keep:
            console.print(f"kept: {machine.folder}")
    return {
        "passed": passed, "verdict": verdict.__dict__, "problems": problems[:50], "slow": slow, "steps": steps,
        "redelivered": redelivered, "caught_up": caught_up, "rest_retries": flow.retries,
    }  # fmt: skip


def main() -> int:
    """Run schedules until one fails or all have passed."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--schedules", type=int, default=1, help="the first in the order of the list, then shuffled")
    parser.add_argument("--devices", type=int, default=100)
    parser.add_argument("--rate", type=float, default=200, help="events per second, half by files, half by REST")
    parser.add_argument("--only", help="run the faults whose name holds this text")
    parser.add_argument("--keep", action="store_true", help="keep the machine's folder")
    options = parser.parse_args()
    console = Console()
    faults = [fault for fault in FAULTS if not options.only or options.only in fault.name]
    results = []
    for number in range(options.schedules):
        order = list(faults)
        if number:
            Random(number).shuffle(order)
        console.rule(f"schedule {number + 1} of {options.schedules}")
        results.append(run(order, devices=options.devices, rate=options.rate, console=console, keep=options.keep))
        if not results[-1]["passed"]:
            break
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"chaos-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(results, indent=1) + "\n")
    passed = all(result["passed"] for result in results)
    console.print(f"{'[green]passed' if passed else '[red]FAILED'}[/], saved to {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
