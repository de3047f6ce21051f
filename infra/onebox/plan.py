"""What runs on one machine: which processes, with which ports, keys and addresses, in which order.

Only decides. `up` carries it out.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from infra.onebox.child import ChildSpec
from infra.onebox.home import Home
from infra.onebox.keys import KeyFiles
from infra.onebox.known_settings import settings_class
from infra.onebox.ports import HOST, PortWish
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.readiness import wait_ready
from infra.onebox.settings import UpSettings
from infra.onebox.spawn import launch_arguments
from infra.onebox.valkey import EmbeddedValkey
from infra.scaling.worker_policy import WORKERS_MAX
from shared.job_kinds import QUEUES
from shared.lifecycle import PARENT_PID_VARIABLE
from shared.settings import SettingsError, load

__all__ = [
    "HUBS_MAX",
    "Ports",
    "Process",
    "check_settings",
    "hub_port_wishes",
    "hub_process",
    "port_wishes",
    "process_environment",
    "processes",
    "server_spec",
    "worker_port_wish",
    "worker_process",
]

HUBS_MAX: Final = 64


@dataclass(frozen=True)
class Process:
    """One of our own processes: its name among the others, its package, its operations port and its settings."""

    name: str
    package: str
    ops_port: int
    settings: Mapping[str, str] = field(default_factory=dict)

    def spec(self, environment: Mapping[str, str]) -> ChildSpec:
        """How to run it as a child of this process."""
        return ChildSpec(
            name=self.name,
            arguments=lambda: launch_arguments([sys.executable, "-m", self.package]),
            environment={
                **environment,
                **self.settings,
                "FLEETWIRE_OPS_PORT": str(self.ops_port),
                PARENT_PID_VARIABLE: str(os.getpid()),
            },
            wait_ready=lambda: wait_ready(self.ops_port),
        )


@dataclass(frozen=True)
class Ports:
    """The ports in use, settled."""

    postgres: int | None
    valkey: int | None
    api: int
    files: int
    hubs: tuple[int, ...]
    api_ops: int
    files_ops: int
    watcher_ops: int
    worker_ops: int
    hub_ops: tuple[int, ...]

    @classmethod
    def from_settled(cls, wishes: list[PortWish], settled: list[int]) -> "Ports":
        """The settled ports by what they are for, in the order of `port_wishes`."""
        by_what = {wish.what: port for wish, port in zip(wishes, settled, strict=True)}
        hubs = sum(wish.variable == "FLEETWIRE_HUB_PORT" for wish in wishes)
        return cls(
            postgres=by_what.get("Postgres"),
            valkey=by_what.get("Valkey"),
            api=by_what["the API"],
            files=by_what["the files gateway"],
            hubs=tuple(by_what[f"hub {number}"] for number in range(1, hubs + 1)),
            api_ops=by_what["the API's operations"],
            files_ops=by_what["the files gateway's operations"],
            watcher_ops=by_what["the watcher's operations"],
            worker_ops=by_what["the worker's operations"],
            hub_ops=tuple(by_what[f"hub {number}'s operations"] for number in range(1, hubs + 1)),
        )


def port_wishes(settings: UpSettings, hubs: int) -> list[PortWish]:
    """Every port that will be listened on, with the setting that moves it."""
    wishes = []
    if settings.database_url is None:
        wishes.append(PortWish("Postgres", settings.postgres_port, "FLEETWIRE_POSTGRES_PORT"))
    if settings.redis_url is None:
        wishes.append(PortWish("Valkey", settings.valkey_port, "FLEETWIRE_VALKEY_PORT"))
    wishes += [
        PortWish("the API", settings.api_port, "FLEETWIRE_API_PORT"),
        PortWish("the files gateway", settings.files_port, "FLEETWIRE_FILES_PORT"),
        PortWish("the API's operations", settings.api_ops_port, "FLEETWIRE_API_OPS_PORT"),
        PortWish("the files gateway's operations", settings.files_ops_port, "FLEETWIRE_FILES_OPS_PORT"),
        PortWish("the watcher's operations", settings.watcher_ops_port, "FLEETWIRE_WATCHER_OPS_PORT"),
        PortWish("the worker's operations", settings.worker_ops_port, "FLEETWIRE_WORKER_OPS_PORT"),
    ]
    return wishes + [wish for number in range(1, hubs + 1) for wish in hub_port_wishes(settings, number)]


def hub_port_wishes(settings: UpSettings, number: int) -> list[PortWish]:
    """The port for devices and the operations port of one hub."""
    return [
        PortWish(f"hub {number}", _nth(settings.hub_port, number), "FLEETWIRE_HUB_PORT"),
        PortWish(f"hub {number}'s operations", _nth(settings.hub_ops_port, number), "FLEETWIRE_HUB_OPS_PORT"),
    ]


def _nth(first: int, number: int) -> int:
    return first + number - 1 if first else 0


def process_environment(
    given: Mapping[str, str], home: Home, keys: KeyFiles, *, cloud: Path, database_url: str, redis_url: str
) -> dict[str, str]:
    """What every process gets. Keys that the environment names are kept."""
    environment = dict(given)
    for name, file in {"TOKEN_KEYS": keys.tokens, "TICKET_KEYS": keys.tickets, "FILES_KEYS": keys.files}.items():
        if f"FLEETWIRE_{name}" not in given and f"FLEETWIRE_{name}_FILE" not in given:
            environment[f"FLEETWIRE_{name}_FILE"] = str(file)
    environment |= {
        "FLEETWIRE_HOME": str(home.path),
        "FLEETWIRE_CLOUD_ROOT": str(cloud),
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_REDIS_URL": redis_url,
    }
    environment.setdefault("FLEETWIRE_LOG_FORMAT", "console")
    return environment


def processes(ports: Ports, keys: KeyFiles, given: Mapping[str, str]) -> list[list[Process]]:
    """Our processes in the order of their start; those in one list start together."""
    api = Process(
        "api",
        "api",
        ports.api_ops,
        {
            "FLEETWIRE_API_HOST": HOST,
            # Nothing balances over this one API, so it need not wait for anybody to look elsewhere.
            "FLEETWIRE_API_DRAIN_S": "0",
            "FLEETWIRE_API_PORT": str(ports.api),
            "FLEETWIRE_FILES_URL": f"http://{HOST}:{ports.files}",
        },
    )
    hubs = [
        hub_process(number, port, ops_port, keys, given)
        for number, (port, ops_port) in enumerate(zip(ports.hubs, ports.hub_ops, strict=True), start=1)
    ]
    watcher = Process("watcher", "watcher", ports.watcher_ops, {"FLEETWIRE_WATCHER_NAME": "watcher-1"})
    worker = Process("worker", "worker", ports.worker_ops, {"FLEETWIRE_WORKER_NAME": "worker-1"})
    files = Process(
        "files", "files", ports.files_ops, {"FLEETWIRE_FILES_HOST": HOST, "FLEETWIRE_FILES_PORT": str(ports.files)}
    )
    return [[api], hubs, [watcher], [worker], [files]]


def hub_process(number: int, port: int, ops_port: int, keys: KeyFiles, given: Mapping[str, str]) -> Process:
    """One hub. It gets keys that only verify, unless the environment names others."""
    verify_only = {}
    for name, file in {"TOKEN_KEYS": keys.tokens_public, "TICKET_KEYS": keys.tickets_public}.items():
        if f"FLEETWIRE_{name}" not in given and f"FLEETWIRE_{name}_FILE" not in given:
            verify_only[f"FLEETWIRE_{name}_FILE"] = str(file)
    return Process(
        f"hub-{number}",
        "hub",
        ops_port,
        {
            **verify_only,
            "FLEETWIRE_HUB_NAME": f"hub-{number}",
            "FLEETWIRE_HUB_HOST": HOST,
            "FLEETWIRE_HUB_PORT": str(port),
            "FLEETWIRE_HUB_URL": f"ws://{HOST}:{port}",
        },
    )


def worker_process(number: int, queue: str, ops_port: int, given: Mapping[str, str]) -> Process:
    """One of several workers of a queue: small, because it is their number that follows the load."""
    small = {"FLEETWIRE_WORKER_PROCESSES": "1", "FLEETWIRE_DB_POOL_MAX": "5"}
    name = worker_name(number, queue)
    return Process(
        name,
        "worker",
        ops_port,
        {
            **{variable: value for variable, value in small.items() if not given.get(variable)},
            "FLEETWIRE_WORKER_NAME": name,
            "FLEETWIRE_WORKER_QUEUES": queue,
        },
    )


def worker_name(number: int, queue: str) -> str:
    """`worker-2`, `worker-ai-1`."""
    return f"worker-{number}" if queue == QUEUES[0] else f"worker-{queue}-{number}"


def worker_port_wish(settings: UpSettings, number: int, queue: str) -> PortWish:
    """The operations port of one worker."""
    port = _nth(settings.worker_ops_port, QUEUES.index(queue) * WORKERS_MAX + number)
    return PortWish(f"{worker_name(number, queue)}'s operations", port, "FLEETWIRE_WORKER_OPS_PORT")


def check_settings(planned: Sequence[Process], environment: Mapping[str, str], *, connections: int | None) -> None:
    """Read every process's settings as it will, so that all mistakes are said at once, before anything runs.

    With `connections`, all pools together must leave ten of them free. Raises SettingsError.
    """
    problems: list[str] = []
    pooled = 0
    for process in planned:
        try:
            settings = load(settings_class(process.package), {**environment, **process.settings})
        except SettingsError as error:
            problems += [problem for problem in error.problems if problem not in problems]
            continue
        pooled += getattr(settings, "db_pool_max", 0) * getattr(settings, "api_workers", 1)
    if connections is not None and pooled > connections - 10:
        problems.append(
            f"FLEETWIRE_DB_POOL_MAX is too large: {len(planned)} processes may open {pooled} connections "
            f"(the API as often as FLEETWIRE_API_WORKERS says), Postgres takes {connections - 10}"
        )
    if problems:
        raise SettingsError(problems)


def server_spec(server: EmbeddedPostgres | EmbeddedValkey) -> ChildSpec:
    """How to run an embedded server as a child of this process."""
    return ChildSpec(
        name=server.name,
        prepare=server.prepare,
        arguments=server.launch_arguments,
        environment=server.environment(),
        wait_ready=server.wait_ready,
        stop_signal=server.stop_signal,
        folder="/",
    )
