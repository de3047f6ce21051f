"""Every alert fired once by a real fault, and led to its page: `python -m loadtests.alert_faults [--only TEXT]`.

A whole Fleetwire with devices, requests and files runs beside a real Prometheus, whose rules have all durations
divided by `--scale` (an hour is a minute). Faults come one after another, those that take minutes beside the others;
each is undone as soon as its alerts have fired. An alert counts when Prometheus told it to where an Alertmanager would
be, began to fire after the fault began, and names a page and a heading that are there.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from infra.prometheus import rules
from loadtests.alert_fault_list import FAULTS, Fault
from loadtests.alert_scene import Scene, running_scene
from loadtests.prometheus_server import Told
from loadtests.run_folder import run_folder

__all__ = ["Fired", "main"]

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results"
WARM_UP_S: Final = 20.0
_SETTLE_S: Final = 12.0
_QUIET_S: Final = 45.0
_LOOK_S: Final = 0.2


@dataclass(frozen=True)
class Fired:
    """What became of one alert. `after_s` is None when it did not fire; negative when it fired before the fault, since
    the machine was short of the same already, and went on.
    """

    alert: str
    fault: str
    after_s: float | None
    severity: str
    page: str
    page_found: bool
    summary: str

    @property
    def is_good(self) -> bool:
        """It fired, and its page is there."""
        return self.after_s is not None and self.page_found


async def fire(scene: Scene, fault: Fault, console: Console) -> list[Fired]:
    """One fault, until its alerts have fired or its time is over."""
    names = [rules.PREFIX + name for name in fault.alerts]
    await _until_quiet(scene, names)
    firing = await _firing(scene)
    began, end = time.time(), time.monotonic() + fault.within_s
    failed = ""
    try:
        async with fault.during(scene):
            while time.monotonic() < end and any(_told(scene, name, began, firing) is None for name in names):
                await asyncio.sleep(_LOOK_S)
    except Exception as error:  # noqa: BLE001 - the other faults go on, and this one's alerts did not fire
        failed = f"{type(error).__name__}: {error}"
    found = [_fired(fault, name, _told(scene, name, began, firing), began) for name in names]
    missing = [one.alert for one in found if not one.is_good]
    said = f"[red]did not fire: {', '.join(missing)} {failed}" if missing else "[green]all fired"
    console.print(f"{fault.name}: {said} ({time.time() - began:.0f} s)")
    return found


async def _firing(scene: Scene) -> set[str]:
    return {labels["alertname"] for labels, _ in await scene.prometheus.ask('ALERTS{alertstate="firing"}')}


async def _until_quiet(scene: Scene, names: Sequence[str]) -> None:
    """What an earlier fault left shall be over. A machine that is busy with other work stays so: then it is said."""
    end = time.monotonic() + _QUIET_S
    while time.monotonic() < end and await _firing(scene) & set(names):
        await asyncio.sleep(1.0)


def _told(scene: Scene, name: str, began: float, firing: Collection[str]) -> Told | None:
    return scene.prometheus.heard(name, 0.0 if name in firing else began)


def _fired(fault: Fault, name: str, told: Told | None, began: float) -> Fired:
    if told is None:
        return Fired(name, fault.name, None, "", "", False, "")
    page = told.annotations.get("runbook_url", "")
    return Fired(
        alert=name,
        fault=fault.name,
        after_s=round(told.since - began, 1),
        severity=told.labels.get("severity", ""),
        page=page,
        page_found=page_has(page, name),
        summary=told.annotations.get("summary", ""),
    )


def page_has(page: str, alert: str) -> bool:
    """Whether the page is there and has a heading for the alert."""
    file = ROOT / page.partition("#")[0]
    return file.is_file() and f"## {alert}" in file.read_text("utf-8").splitlines()


async def run(folder: Path, faults: Sequence[Fault], scale: float, console: Console) -> list[Fired]:
    """All of them."""
    async with running_scene(folder, scale=scale) as scene:
        console.print(f"{len(scene.ports)} processes are watched; {WARM_UP_S:.0f} s in which all is well")
        await asyncio.sleep(WARM_UP_S)
        beside = [asyncio.create_task(fire(scene, fault, console)) for fault in faults if fault.beside]
        found: list[Fired] = []
        for fault in faults:
            if not fault.beside:
                found += await fire(scene, fault, console)
                await asyncio.sleep(_SETTLE_S)
        for task in beside:
            found += await task
        return found


def table(found: Sequence[Fired]) -> Table:
    """For people."""
    made = Table("alert", "fault", "fired after", "wakes", "page")
    for one in found:
        made.add_row(
            one.alert if one.is_good else f"[red]{one.alert}",
            one.fault,
            "–" if one.after_s is None else "before it" if one.after_s < 0 else f"{one.after_s:.1f} s",
            "yes" if one.severity == "page" else "",
            one.page if one.page_found else f"[red]{one.page or 'none'}",
        )
    return made


def main() -> int:
    """Run, print, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.alert_faults", description=__doc__)
    parser.add_argument("--scale", type=float, default=60.0, help="what all durations of the rules are divided by")
    parser.add_argument("--only", action="append", help="faults whose name, or one of whose alerts, holds this text")
    parser.add_argument("--keep", action="store_true", help="keep the run's folder")
    options = parser.parse_args()
    console = Console(width=170)
    chosen = [
        fault
        for fault in FAULTS
        if not options.only or any(text in name for text in options.only for name in (fault.name, *fault.alerts))
    ]
    with run_folder("fleetwire-alerts-", keep=options.keep) as folder:
        found = uvloop.run(run(folder, chosen, options.scale, console))
    console.print(table(found))
    all_alerts = {rule["alert"] for group in rules.made()["alerts.yml"] for rule in group["rules"]}
    missing = sorted(all_alerts - {one.alert for one in found}) if not options.only else []
    passed = bool(found) and all(one.is_good for one in found) and not missing
    result: dict[str, Any] = {
        "passed": passed,
        "scale": options.scale,
        "without_a_fault": missing,
        "alerts": [asdict(one) for one in found],
    }
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"alert-faults-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(result, indent=1) + "\n")
    good = sum(one.is_good for one in found)
    console.print(f"{good} of {len(found) + len(missing)} alerts fired and led to their pages, saved to {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
