"""The driver as a process: thousands of devices on a running Fleetwire, events by REST at a rate, a verdict.

Where Fleetwire runs is found as the `fleetwire` command finds it (FLEETWIRE_HOME, or the options); `--own` starts one
for the run. Ends 0 when lost, repeated and out of order are all 0, else 1; 2 when it cannot begin.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvloop
from rich.console import Console
from rich.progress import Progress, TaskID

from infra.command_settings import CommandSettings
from loadtests.driver.run import Load, Target, drive
from loadtests.machine import running_machine
from shared.settings import SettingsError, load

__all__ = ["main"]

RESULTS: Final = Path(__file__).parents[1] / "results"
_FILES_BESIDES: Final = 64


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m loadtests.driver", description=__doc__)
    add = parser.add_argument
    add("--devices", type=_at_least(1, int), default=500)
    add("--rate", type=_at_least(0.001, float), default=100.0, help="events per second over all devices")
    add("--seconds", type=_at_least(0, float), default=30.0, help="how long to publish")
    add("--settle", type=_at_least(0, float), default=30.0, help="seconds that the last event may take")
    add("--connect-within", type=_at_least(0, float), default=120.0, help="seconds until all are welcomed")
    add("--own", action="store_true", help="start a Fleetwire for this run, with room for the devices")
    add("--hubs", type=_at_least(1, int), default=2, help="how many hubs, with --own")
    add("--api", help="address of the API; by default what runs in the home")
    add("--hub", action="append", help="address of a hub, ws://…; may be given more than once")
    add("--keys", help="file with the key set that signs tokens; by default the home's")
    add("--home", help="the home of the set-up that runs; by default FLEETWIRE_HOME")
    add("--results", type=Path, default=RESULTS, help="folder for the figures")
    return parser.parse_args(arguments)


def _at_least(low: float, kind: type[int] | type[float]) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = kind(text)
        if not low <= value < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not a number of at least {low:g}")
        return value

    return number


@contextmanager
def _target(options: argparse.Namespace) -> Iterator[Target]:
    """What to drive. Raises SettingsError."""
    if options.own:
        capacity = str(max(500, options.devices))
        burst = str(2 * int(capacity))
        with running_machine(
            hubs=options.hubs, FLEETWIRE_HUB_CAPACITY=capacity, FLEETWIRE_HUB_HANDSHAKES_BURST=burst
        ) as machine:
            yield Target(machine.api, machine.hubs, machine.keys)
        return
    given = {
        "FLEETWIRE_API_URL": options.api,
        "FLEETWIRE_TOKEN_KEYS_FILE": options.keys,
        "FLEETWIRE_HOME": options.home,
    }
    settings = load(CommandSettings, os.environ | {name: value for name, value in given.items() if value})
    running = settings.running
    hubs = options.hub or (running.hubs if running else None)
    if not hubs:
        raise SettingsError(["no hub is known: start `fleetwire up`, or give --hub, or --own to start one for the run"])
    yield Target(settings.need_api_url().rstrip("/"), hubs, settings.need_signing_keys())


def _allow_open_files(devices: int) -> None:
    """Each device is an open file. Raises SettingsError."""
    needed, (_, hard) = devices + _FILES_BESIDES, resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingsError([f"{devices} devices need {needed} open files; this process may have {hard} (ulimit -Hn)"])
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main(arguments: Sequence[str] | None = None) -> int:
    """Drive, print, save."""
    options, console = _options(arguments), Console()
    amount = Load(options.devices, options.rate, options.seconds, options.settle, options.connect_within)
    try:
        _allow_open_files(amount.devices)
        with _target(options) as target, Progress(console=console) as progress:
            tasks: dict[str, TaskID] = {}

            def show(what: str, done: float, total: float) -> None:
                if what not in tasks:
                    tasks[what] = progress.add_task(what)
                progress.update(tasks[what], completed=done, total=total)

            figures = uvloop.run(drive(target, amount, show))
    except SettingsError as error:
        print(f"python -m loadtests.driver: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    for line in figures.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    options.results.mkdir(parents=True, exist_ok=True)
    file = options.results / f"driver-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures.as_json()) + "\n")
    console.print(f"{'[green]passed' if figures.passed else '[red]FAILED'}[/], saved to {file}", soft_wrap=True)
    return 0 if figures.passed else 1


if __name__ == "__main__":
    raise SystemExit(main())
