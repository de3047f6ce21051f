"""Locust drives up to a thousand devices against a running Fleetwire and fails when one event is lost or shown twice.

Where Fleetwire runs is found as the `fleetwire` command finds it (FLEETWIRE_HOME, FLEETWIRE_API_URL,
FLEETWIRE_TOKEN_KEYS_FILE); `--host` is the address of its API. Each user is one device; `--event-rate` events a second
go to those that are connected, in turn. At the end the last event is awaited and the run is judged: exit code 1 unless
lost, repeated and out of order are all 0. `--shape` says what the run looks like over its time (see `shapes`), `-u` how
many devices at most and `-t` how long. A device that is taken away gets no more events and goes once it was shown what
it was sent.
"""
# mypy: allow-untyped-calls, allow-untyped-decorators
# Locust's hooks have no types.

import json
import logging
import os
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import gevent
from locust import events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.runners import LocalRunner

from infra.command_settings import CommandSettings
from loadtests import shapes
from loadtests.device_user import DeviceUser, LoadRun
from loadtests.disturbances import Disturbance
from loadtests.locust_publisher import Publisher
from loadtests.locust_shape import FleetShape
from shared.settings import SettingsError, load
from shared.tokens import KeyRing

__all__ = ["DeviceUser"]

RESULTS: Final = Path(__file__).parent / "results"
QUIET_S: Final = 0.5  # after the last event, so that one shown twice is seen
LEAVE_S: Final = 5.0
STOP_S: Final = 20.0  # for devices that are taken away
SPAWN_RATE: Final = 100.0
_STEP_S: Final = 0.02

_log = logging.getLogger("fleetwire.load")


class Scenario:
    """All runs of one Locust: each begins with fresh devices and ends with a verdict."""

    def __init__(self, environment: Environment, options: Namespace, keys: KeyRing, ops: Mapping[str, int]) -> None:
        """`ops` are the operations ports that the shape asks."""
        self._environment = environment
        self._options = options
        self._keys = keys
        self._ops = ops
        self._disturbance: Disturbance | None = None
        self._run: LoadRun | None = None
        self._publisher: Publisher | None = None
        self.passed = True

    def begin(self) -> None:
        """Before the users are made."""
        run = self._run = DeviceUser.run_of_all = LoadRun(self._keys)
        self._publisher = Publisher(
            self._environment, run, api=str(self._environment.host), rate=self._options.event_rate
        )
        self._publisher.start()
        options = self._options
        self._disturbance = Disturbance(
            shapes.Shape(options.shape),
            run,
            seconds=float(options.run_time or 0),
            ops=self._ops,
            token=os.environ.get("FLEETWIRE_OPS_TOKEN"),
        )
        self._disturbance.start()

    def settle(self) -> None:
        """While the users still live: publish no more, wait for the last event, let the devices ack and leave."""
        run, publisher = self._run, self._publisher
        if run is None or publisher is None:
            return
        if self._disturbance is not None:
            self._disturbance.stop()
        publisher.stop()
        _wait(lambda: run.shown >= publisher.publications.recorded, self._options.settle)
        gevent.sleep(QUIET_S)
        for device in run.devices:
            device.stop()
        _wait(lambda: not any(device.live for device in run.devices), LEAVE_S)

    def end(self) -> None:
        """Judge, print, save."""
        run, publisher, disturbance = self._run, self._publisher, self._disturbance
        self._run = self._publisher = self._disturbance = None
        if run is None or publisher is None or disturbance is None:
            return
        verdict = run.history.judge()
        failures = [publisher.failure, *disturbance.failures]
        if not verdict.recorded:
            failures.append("nothing was published: no device was connected")
        failure = "; ".join(filter(None, failures)) or None
        passed = verdict.passed and failure is None
        self.passed = self.passed and passed
        print(f"\n{len(run.connected):,} of {len(run.devices):,} devices connected: {verdict}")
        print(f"delivered {run.latencies}")
        seen = {what: value for what, value in disturbance.figures.items() if what != "vitals"}
        print(", ".join(f"{what} {value}" for what, value in seen.items()))
        if failure is not None:
            print(failure)
        figures: dict[str, Any] = {
            "passed": passed,
            "failure": failure,
            "verdict": verdict.__dict__,
            "delivered": run.latencies.summary(),
            "devices": len(run.devices),
            "connected": len(run.connected),
            "sockets": sum(device.sockets for device in run.devices),
            "refused_frames": sum(device.refused_frames for device in run.devices),
            "rate": self._options.event_rate,
            "publish_late_s": round(publisher.publications.late_s, 3),
            "publish_requests_repeated": publisher.publications.repeated_requests,
            **disturbance.figures,
        }
        folder = Path(self._options.results)
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / f"locust-{time.strftime('%Y%m%d-%H%M%S')}.json"
        file.write_text(json.dumps(figures) + "\n")
        print(f"{'passed' if passed else 'FAILED'}, saved to {file}\n", flush=True)


def _wait(condition: Callable[[], bool], deadline_s: float) -> None:
    end = time.monotonic() + deadline_s
    while not condition() and time.monotonic() < end:
        gevent.sleep(_STEP_S)


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser, **_: Any) -> None:
    """Ours beside Locust's own; each can be given in the environment or on Locust's page as well."""
    group = parser.add_argument_group("Fleetwire options")
    add = group.add_argument
    add("--event-rate", type=float, env_var="LOCUST_EVENT_RATE", default=20.0, help="events a second over all devices")
    add(
        "--shape",
        choices=[str(shape) for shape in shapes.Shape],
        env_var="LOCUST_SHAPE",
        default=str(shapes.Shape.STEADY),
        help="what the run looks like over its time",
    )
    add("--settle", type=float, env_var="LOCUST_SETTLE", default=30.0, help="seconds that the last event may take")
    add("--results", env_var="LOCUST_RESULTS", default=str(RESULTS), help="folder for the figures")


@events.init.add_listener
def prepare(environment: Environment, **_: Any) -> None:
    """Find what to drive, and be told how runs begin and end."""
    try:
        if not isinstance(environment.runner, LocalRunner):
            raise SettingsError(["run one Locust process: what is published is judged in the process that publishes"])
        options = environment.parsed_options
        if options is None or not options.event_rate > 0:
            raise SettingsError(["--event-rate must be above 0"])
        settings = load(CommandSettings, os.environ)
        environment.host = (environment.host or settings.need_api_url()).rstrip("/")
        shape, running = shapes.Shape(options.shape), settings.running
        if shape is not shapes.Shape.STEADY and not (options.run_time and options.num_users):
            raise SettingsError([f"--shape {shape} needs -u, the most devices, and -t, how long"])
        ops = shapes.asked_processes(shape, running.ops if running else None)
        scenario = Scenario(environment, options, settings.need_signing_keys(), ops)
    except SettingsError as error:
        _log.error("%s", error)
        raise SystemExit(2) from None
    runner = environment.runner
    if shape is shapes.Shape.RAMP:
        environment.shape_class = FleetShape(
            shape, most=options.num_users, spawn_rate=options.spawn_rate or SPAWN_RATE, seconds=options.run_time
        )
        environment.shape_class.runner = runner
        environment.stop_timeout = environment.stop_timeout or STOP_S

    def quit_judged(**_: Any) -> None:
        runner.stop()  # Ctrl-C comes here first
        if not scenario.passed:
            environment.process_exit_code = 1

    environment.events.test_start.add_listener(lambda **_: scenario.begin())
    environment.events.test_stopping.add_listener(lambda **_: scenario.settle())
    environment.events.test_stop.add_listener(lambda **_: scenario.end())
    environment.events.quitting.add_listener(quit_judged)
    # The loop's clock stands still while we start, and the time of the run would be counted from before that.
    gevent.get_hub().loop.update_now()
