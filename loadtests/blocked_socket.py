"""The socket cannot be had: refused, SYN swallowed, accepted and silent, `Upgrade` stripped on the way.

Devices are live, events flow; then the way to the hub fails and every open socket is cut. Each device must be given
events by REST within 10 s, and so must one that starts only then. When the way works again, each must be back on its
socket within 60 s. In the end every device was shown what its log holds, once and in order.
"""

import argparse
import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.progress import Progress

from device.route import State
from device.timing import Timing
from loadtests.fault_proxy import FaultProxy, Way
from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port
from loadtests.watched_device import WatchedDevice, judge, publish

__all__ = ["BACK_MAX_S", "BLOCKED", "REST_MAX_S", "Blockade", "blockade", "flowing"]

RESULTS: Final = Path(__file__).parent / "results"
REST_MAX_S: Final = 10.0
BACK_MAX_S: Final = 60.0
BLOCKED: Final = tuple(way for way in Way if way is not Way.FORWARD)
_SLACK_S: Final = 15.0
_GAP_S: Final = 0.1


@dataclass(frozen=True)
class Blockade:
    """What was seen, in seconds: the slowest device of each kind."""

    way: str
    cut_to_rest_s: float
    start_to_rest_s: float
    back_s: float
    tries: int
    verdict: str
    passed: bool

    def __str__(self) -> str:
        return (
            f"{self.way}: cut off → event by REST {self.cut_to_rest_s:.1f} s, started blocked → event by REST "
            f"{self.start_to_rest_s:.1f} s, way open → live {self.back_s:.1f} s ({self.tries} connections met it); "
            f"{self.verdict}"
        )


async def blockade(
    machine: Machine,
    way: Way,
    *,
    port: int,
    devices: int,
    hold_s: float,
    timing: Timing | None = None,
    faster: float = 1.0,
) -> Blockade:
    """Block the hubs' address for `hold_s`, with events flowing all the while. `faster` divides the promised times."""
    name = way.name.lower().replace("_", "-")
    fleet = [WatchedDevice(machine, f"{name}-{number}", timing=timing) for number in range(devices)]
    late = WatchedDevice(machine, f"{name}-late", timing=timing)
    everybody = [*fleet, late]
    async with FaultProxy(machine.hubs[0], port=port) as proxy:
        try:
            await late.start()  # makes the device, so that events can be recorded for it
            await late.until(lambda: late.state is State.LIVE, 30, "live before all")
            await late.stop()
            await asyncio.gather(*(one.start() for one in fleet))
            await asyncio.gather(*(_live(one, time.monotonic(), 30) for one in fleet))
            async with flowing(machine, [one.device_id for one in everybody]):
                await proxy.become(way)
                before = proxy.accepted
                blocked_at = time.monotonic()
                await proxy.cut()
                await late.start()
                rest = await asyncio.gather(*(_by_rest(one, blocked_at, REST_MAX_S / faster) for one in everybody))
                await asyncio.sleep(max(0.0, blocked_at + hold_s - time.monotonic()))
                tries = proxy.accepted - before

                opened_at = time.monotonic()
                await proxy.become(Way.FORWARD)
                back = await asyncio.gather(*(_live(one, opened_at, BACK_MAX_S / faster) for one in everybody))
                await asyncio.gather(*(_live_event(one, opened_at) for one in everybody))
            await asyncio.gather(*(_all_shown(machine, one) for one in everybody))
        finally:
            await asyncio.gather(*(one.stop() for one in everybody))
    verdict = await judge(machine, everybody)
    resets = sum(one.resets for one in everybody)
    cut_s, start_s, back_s = max(rest[:-1]), rest[-1], max(back)
    return Blockade(
        way=way.value,
        cut_to_rest_s=round(cut_s, 2),
        start_to_rest_s=round(start_s, 2),
        back_s=round(back_s, 2),
        tries=tries,
        verdict=str(verdict),
        passed=verdict.passed
        and not resets
        and max(cut_s, start_s) <= REST_MAX_S / faster
        and back_s <= BACK_MAX_S / faster,
    )


async def _by_rest(device: WatchedDevice, since: float, bound_s: float) -> float:
    """Seconds until it was given an event that came by REST."""
    await device.until(
        lambda: device.first_after(since, State.REST) is not None, bound_s + _SLACK_S, "an event by REST"
    )
    shown = device.first_after(since, State.REST)
    assert shown is not None
    return shown.at - since


async def _live(device: WatchedDevice, since: float, bound_s: float) -> float:
    """Seconds until its socket was live."""
    await device.until(lambda: device.state is State.LIVE, bound_s + _SLACK_S, "back on the socket")
    return max(0.0, device.states[-1][0] - since)


async def _live_event(device: WatchedDevice, since: float) -> None:
    await device.until(lambda: device.first_after(since, State.LIVE) is not None, 10, "a live event")


async def _all_shown(machine: Machine, device: WatchedDevice) -> None:
    verdict = await judge(machine, [device])
    await device.until(lambda: len(device.shown) >= verdict.recorded, 20, f"all {verdict.recorded} events")


@asynccontextmanager
async def flowing(machine: Machine, devices: Sequence[str]) -> AsyncIterator[None]:
    """An event for each device ten times a second, meanwhile. What ends that ends what is inside, and is said."""
    enough = asyncio.Event()
    flow: asyncio.Task[None] | None = None
    try:
        async with asyncio.TaskGroup() as group:
            flow = group.create_task(_flow(machine, devices, enough))
            yield
            enough.set()
    except BaseExceptionGroup as ended:
        died = flow.exception() if flow is not None and flow.done() and not flow.cancelled() else None
        if died is not None:
            raise RuntimeError(f"no events flow any more, they could not be published: {died!r}") from died
        raise ended.exceptions[0] from None


async def _flow(machine: Machine, devices: Sequence[str], enough: asyncio.Event) -> None:
    while not enough.is_set():
        await publish(machine, devices, len(devices))
        with suppress(TimeoutError):
            async with asyncio.timeout(_GAP_S):
                await enough.wait()


def main() -> int:
    """Run every way of being blocked, print, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.blocked_socket", description=__doc__)
    parser.add_argument("--devices", type=int, default=10)
    parser.add_argument("--hold", type=float, default=40, help="seconds that the socket stays blocked")
    parser.add_argument("--only", default="", help="part of the name of a way: " + ", ".join(w.value for w in BLOCKED))
    options = parser.parse_args()
    console, port = Console(), free_port()
    ways = [way for way in BLOCKED if options.only in way.value]
    found: list[Blockade] = []
    with (
        running_machine(hubs=1, FLEETWIRE_PROXY_URL=f"ws://127.0.0.1:{port}") as machine,
        Progress(console=console) as progress,
    ):
        task = progress.add_task("ways to be blocked", total=len(ways))
        for way in ways:
            found.append(uvloop.run(blockade(machine, way, port=port, devices=options.devices, hold_s=options.hold)))
            console.print(f"{'[green]ok[/]  ' if found[-1].passed else '[red]BAD[/] '} {found[-1]}")
            progress.advance(task)
    passed = all(one.passed for one in found)
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"blocked-socket-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps([asdict(one) for one in found]) + "\n")
    console.print(f"{'[green]passed' if passed else '[red]FAILED'}[/], saved to {file}")
    return 0 if passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
