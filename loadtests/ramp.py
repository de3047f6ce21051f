"""Devices come and go by the hundred, hubs follow, and exactly those devices move whose owner changed.

`fleetwire up --autoscale` with one hub; devices rise to many and fall again, so that hubs go 1 → 3 → 1 while events
flow. Asserted: the hubs follow; a device is moved only to its new owner after a change of the hubs (or home once, if
its own hub was full when it came), and at the top all are where they belong; at most the set rate; nothing lost,
repeated or out of order; latency while devices move within three times what it was before.
"""

import argparse
import asyncio
import json
import secrets
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import uvloop
from rich.console import Console
from rich.table import Table

from infra.onebox.running import Running
from loadtests.crowd import Crowd
from loadtests.driver.fleet import Device
from loadtests.driver.latency import Latencies
from loadtests.driver.run import Target
from loadtests.machine import Machine, running_machine
from loadtests.move_judge import Told, misplaced, peak_rate, unexplained

__all__ = ["main"]

RESULTS: Final = Path(__file__).parent / "results"
WINDOW_S: Final = 5.0
WAVE_S: Final = 1.0  # devices go at a random moment of their wave, so that one more of it may fall into a window
LATENCY_TIMES: Final = 3.0
_STEP_S: Final = 0.1
_AFTER_MOVE_S: Final = 1.0


@dataclass(frozen=True)
class Plan:
    """How many, and how long each part takes, in seconds. `rate` is events per second, `moves` devices per second."""

    low: int
    high: int
    up_s: float
    hold_s: float
    down_s: float
    rate: float
    target: int
    moves: float
    settle_s: float


class Ramp:
    """One run and what was seen of it."""

    def __init__(self, machine: Machine, plan: Plan, console: Console) -> None:
        self.machine = machine
        self.plan = plan
        self.console = console
        self.began = time.monotonic()
        self.crowd = Crowd(
            Target(machine.api, machine.hubs, machine.keys),
            run=f"ramp-{secrets.token_hex(3)}",
            most=plan.high,
            rate=plan.rate,
        )
        self.crowd.fleet.on_moved = self._on_moved
        self.names: dict[str, str] = {}  # of hubs, by address
        self.changes: list[tuple[float, int]] = []  # how many hubs from when on
        self.moved: list[tuple[float, str, str, str, str, float]] = []
        self.quiet, self.moving, self.before = self.crowd.fleet.latencies, Latencies(), Latencies()
        self.curve: list[tuple[float, int, int]] = []
        self._moving_until = 0.0
        self._first_move_seen = False

    @property
    def hubs(self) -> int:
        """How many there are."""
        return self.changes[-1][1] if self.changes else 0

    async def run(self) -> dict[str, Any]:
        """Up, down, and the verdict."""
        publishing, watching = asyncio.create_task(self.crowd.run()), asyncio.create_task(self._watch())
        driving = asyncio.create_task(self._drive())
        tasks: set[asyncio.Task[Any]] = {publishing, watching, driving}
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for unending in (publishing, watching):
                if unending.done():
                    await unending
            top = await driving
            self.crowd.finish()
            await publishing
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self.crowd.all_shown(30.0)
        await asyncio.sleep(0.5)  # so that one shown twice is seen
        await self.crowd.close()
        return self._judge(top)

    async def _drive(self) -> dict[str, Any]:
        plan, fleet = self.plan, self.crowd.fleet
        self._say(f"{plan.low} devices")
        self.crowd.resize(plan.low)
        await fleet.until(lambda: self.crowd.welcomed == len(self.crowd), 60.0)
        await asyncio.sleep(plan.hold_s)
        self._say(f"up to {plan.high} within {plan.up_s:.0f} s")
        await self._slope(plan.up_s, plan.low, plan.high)
        reached = await fleet.until(lambda: self.hubs == 3 and not self._misplaced(), plan.settle_s, step_s=0.2)
        await asyncio.sleep(plan.hold_s)
        top = {"hubs": self.hubs, "devices": self.crowd.welcomed, "settled": reached, "misplaced": self._misplaced()}
        self._say(f"at the top {top['devices']} devices on {top['hubs']} hubs, {len(self._misplaced())} misplaced")
        await self._slope(plan.down_s, plan.high, plan.low)
        await fleet.until(lambda: self.hubs == 1 and not self._misplaced(), plan.settle_s, step_s=0.2)
        await asyncio.sleep(plan.hold_s)
        self._say(f"at the end {self.crowd.welcomed} devices on {self.hubs} hub(s)")
        return top

    async def _slope(self, seconds: float, first: int, last: int) -> None:
        begun = time.monotonic()
        while (part := (time.monotonic() - begun) / seconds) < 1:
            self.crowd.resize(first + round((last - first) * part))
            await asyncio.sleep(_STEP_S)
        self.crowd.resize(last)

    def _misplaced(self) -> list[str]:
        where = {device.device_id: device.hub for device in self.crowd.here}
        return misplaced(where, self.hubs)

    async def _watch(self) -> None:
        """Which hubs there are, and whether devices move."""
        fleet, last = self.crowd.fleet, 0.0
        while True:
            now = time.monotonic()
            running = await asyncio.to_thread(Running.read, self.machine.home)
            if running is not None:
                names = [name for name in running.ops if name.startswith("hub-")]
                self.names |= dict(zip(running.hubs, names, strict=False))
                if len(names) != self.hubs:
                    self.changes.append((now, len(names)))
                    self._say(f"{len(names)} hub(s) at {len(self.crowd)} devices")
            fleet.latencies = self.moving if now < self._moving_until else self.quiet
            if now - last >= 1.0:
                last = now
                self.curve.append((round(now - self.began, 1), self.crowd.welcomed, self.hubs))
            await asyncio.sleep(_STEP_S)

    def _on_moved(self, device: Device, frame: dict[str, object]) -> None:
        now, after_s = time.monotonic(), int(str(frame["after_ms"])) / 1000
        if not self._first_move_seen:
            self._first_move_seen = True
            self.before.merge(self.quiet)
        self._moving_until = max(self._moving_until, now + after_s + _AFTER_MOVE_S)
        self.crowd.fleet.latencies = self.moving
        self.moved.append((now, device.device_id, device.hub, str(frame["url"]), str(frame.get("reason")), after_s))

    def _judge(self, top: dict[str, Any]) -> dict[str, Any]:
        told = [
            Told(at, device_id, here, self.names.get(url.removesuffix("/v1/socket"), url), reason, after_s)
            for at, device_id, here, url, reason, after_s in self.moved
        ]
        counts = [count for _, count in self.changes]
        totals, verdict = self.crowd.fleet.totals, self.crowd.fleet.history.judge()
        wrong = unexplained(told, counts)
        peaks = peak_rate(told, seconds=WINDOW_S)
        allowed = self.plan.moves * (1 + WAVE_S / WINDOW_S)
        before, during = self.before.percentile(99), self.moving.percentile(99)
        checks = {
            "hubs follow 1 → 3 → 1": counts == [1, 2, 3, 2, 1],
            "at the top every device is where it belongs": top["settled"] and not top["misplaced"],
            "only devices whose owner changed are moved": bool(told) and not wrong,
            "no more than the set rate": max(peaks.values(), default=0.0) <= allowed,
            "nothing lost, repeated or out of order": verdict.recorded > 0 and verdict.passed,
            "latency while devices move ≤ 3 × before": during <= LATENCY_TIMES * before,
        }
        return {
            "passed": all(checks.values()),
            "checks": checks,
            "plan": self.plan.__dict__,
            "hubs": [(round(at - self.began, 1), count) for at, count in self.changes],
            "top": top,
            "moves": {
                "told": len(told),
                "done": totals.moves_done,
                "by_reason": dict(Counter(move.reason for move in told)),
                "by_way": dict(Counter(f"{move.from_hub} → {move.to_hub}" for move in told)),
                "unexplained": [move.__dict__ if hasattr(move, "__dict__") else str(move) for move in wrong[:20]],
                "peak_per_s": {hub: round(rate, 1) for hub, rate in peaks.items()},
                "allowed_per_s": allowed,
            },
            "closes": {str(code): count for code, count in sorted(totals.closes.items())},
            "refusals": {str(status): count for status, count in sorted(totals.refusals.items())},
            "gaps": totals.gaps,
            "verdict": verdict.__dict__,
            "latency": {
                "before": self.before.summary(),
                "moving": self.moving.summary(),
                "quiet": self.quiet.summary(),
                "times": round(during / before, 2) if before else None,
            },
            "publish_late_s": round(self.crowd.publications.late_s, 3),
            "curve": self.curve,
        }

    def _say(self, what: str) -> None:
        self.console.print(f"{time.monotonic() - self.began:6.1f} s  {what}", highlight=False)


def show(figures: dict[str, Any], console: Console) -> None:
    """The figures as tables."""
    moves, latency = figures["moves"], figures["latency"]
    table = Table(title="devices came and went")
    table.add_column("what")
    table.add_column("figure", justify="right")
    rows = {
        "hubs, one after the other": " → ".join(str(count) for _, count in figures["hubs"]),
        "events recorded, shown": f"{figures['verdict']['recorded']:,}, {figures['verdict']['shown']:,}",
        "lost, repeated, out of order": ", ".join(
            str(figures["verdict"][what]) for what in ("lost", "repeated", "out_of_order")
        ),
        "devices told to move, moved": f"{moves['told']}, {moves['done']}",
        "told without a change of owner": str(len(moves["unexplained"])),
        "told, by reason": ", ".join(f"{reason} {count}" for reason, count in sorted(moves["by_reason"].items())),
        **{f"told {way}": str(count) for way, count in sorted(moves["by_way"].items())},
        f"most per second over {WINDOW_S:.0f} s, allowed": (
            f"{max(moves['peak_per_s'].values(), default=0.0):.0f}, {moves['allowed_per_s']:.0f}"
        ),
        "p99 before, while moving, ratio": (
            f"{latency['before']['p99_ms']:.1f} ms, {latency['moving']['p99_ms']:.1f} ms, {latency['times']}"
        ),
        "closes": ", ".join(f"{code}: {count}" for code, count in figures["closes"].items()) or "none",
        "refusals": ", ".join(f"{status}: {count}" for status, count in figures["refusals"].items()) or "none",
    }
    for what, figure in rows.items():
        table.add_row(what, figure)
    console.print(table)
    for check, held in figures["checks"].items():
        console.print(f"{'[green]held  ' if held else '[red]FAILED'}[/] {check}", highlight=False)


def main(arguments: list[str] | None = None) -> int:
    """Ramp, print, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.ramp", description=__doc__)
    add = parser.add_argument
    add("--low", type=int, default=100, help="devices at the beginning and at the end")
    add("--high", type=int, default=1000, help="devices at the top; three hubs are wanted there")
    add("--up", type=float, default=120.0, help="seconds of the way up")
    add("--hold", type=float, default=15.0, help="seconds of each level")
    add("--down", type=float, default=120.0, help="seconds of the way down")
    add("--rate", type=float, default=200.0, help="events per second over all devices")
    add("--moves", type=float, default=50.0, help="devices per second that a hub may send away")
    add("--quiet", type=float, default=20.0, help="seconds for which fewer hubs must do")
    add("--period", type=float, default=1.0, help="seconds between two looks of the autoscaler")
    add("--member", type=float, default=5.0, help="seconds between two heartbeats of a hub")
    add("--settle", type=float, default=180.0, help="seconds that the hubs may take at the top and at the end")
    add("--keep", action="store_true", help="keep the folder of the run")
    add("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args(arguments)
    target = round(options.high * 0.36)
    plan = Plan(
        low=options.low,
        high=options.high,
        up_s=options.up,
        hold_s=options.hold,
        down_s=options.down,
        rate=options.rate,
        target=target,
        moves=options.moves,
        settle_s=options.settle,
    )
    console = Console()
    settings = {
        "FLEETWIRE_SCALE_TARGET": str(target),
        "FLEETWIRE_SCALE_MAX": "5",
        "FLEETWIRE_SCALE_WORKERS_MIN": "1",
        "FLEETWIRE_SCALE_QUIET_S": str(options.quiet),
        "FLEETWIRE_SCALE_PERIOD_S": str(options.period),
        "FLEETWIRE_HUB_MOVES_PER_S": str(options.moves),
        "FLEETWIRE_HUB_DRAIN_RATE": str(options.moves),
        "FLEETWIRE_HUB_MEMBER_S": str(options.member),
    }
    with running_machine("--autoscale", hubs=1, keep=options.keep, **settings) as machine:

        async def ramp() -> dict[str, Any]:
            return await Ramp(machine, plan, console).run()

        figures = uvloop.run(ramp())
        figures["autoscaler"] = [
            line for line in machine.log().splitlines() if line.startswith("fleetwire: ") and "hub" in line
        ]
    show(figures, console)
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / f"ramp-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures) + "\n")
    console.print(f"{'[green]passed' if figures['passed'] else '[red]FAILED'}[/], saved to {file}", soft_wrap=True)
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    raise SystemExit(main())
