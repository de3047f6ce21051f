"""`fleetwire up`: everything on one machine, from nothing to ready, kept running until it is told to stop.

For programs, one JSON line on standard output when all is ready. For people, what is being done and what to try next,
on standard error, where the processes' lines go too.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

import asyncpg

from infra.migrations import runner
from infra.onebox.autoscale import Autoscale
from infra.onebox.autoscalers import Ground, autoscalers
from infra.onebox.child import Child
from infra.onebox.errors import OneboxError
from infra.onebox.home import Home, make_directory
from infra.onebox.keys import development_keys
from infra.onebox.known_settings import unknown_settings
from infra.onebox.log_lines import LogLines
from infra.onebox.plan import (
    Ports,
    check_settings,
    hub_process,
    port_wishes,
    process_environment,
    processes,
    server_spec,
    worker_process,
)
from infra.onebox.ports import HOST, settle
from infra.onebox.postgres import CONNECTIONS_MAX, EmbeddedPostgres
from infra.onebox.running import Running
from infra.onebox.scale_settings import ScaleSettings
from infra.onebox.settings import UpSettings
from infra.onebox.simulated import simulated_devices
from infra.onebox.supervisor import Supervisor
from infra.onebox.valkey import EmbeddedValkey
from infra.onebox.worker_set import Depths
from infra.shown_commands import shown, shown_path
from shared.clock import monotonic
from shared.job_kinds import QUEUES
from shared.settings import SettingsError, load

__all__ = ["run_up"]

HUBS: Final = 2
SPOKEN: Final = (OneboxError, runner.MigrationError, SettingsError)
_PROJECT: Final = Path(__file__).parents[2]
_SERVERS, _PROCESSES, _DEVICES = 0, 1, 2
# A signal that reaches us twice, from the terminal and from make, is one wish.
_SAME_WISH_S: Final = 1.0


def run_up(environ: Mapping[str, str], *, hubs: int | None, devices: int, autoscale: bool = False) -> int:
    """Run until stopped and give the exit status."""
    try:
        settings = load(UpSettings, environ)
        scale = load(ScaleSettings, environ) if autoscale else None
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    lines = LogLines()
    try:
        return asyncio.run(_Up(settings, environ, lines, hubs=hubs, devices=devices, scale=scale).run())
    except SPOKEN as error:
        lines.plain(f"\nfleetwire up: {error}")
        return 1
    finally:
        lines.close()


class _Up:
    """One run of `fleetwire up`."""

    def __init__(
        self,
        settings: UpSettings,
        environ: Mapping[str, str],
        lines: LogLines,
        *,
        hubs: int | None,
        devices: int,
        scale: ScaleSettings | None,
    ) -> None:
        """With `scale`, hubs and workers come and go; without, there are as many as wished."""
        self._settings = settings
        self._environ = environ
        self._lines = lines
        self._hubs = hubs or (scale.hubs_min if scale else HUBS)
        self._devices = devices
        self._scale = scale
        self._autoscales: list[Autoscale[Any]] = []
        self._depths: Depths | None = None
        self._home = Home(settings.home)
        self._stop = asyncio.Event()
        self._asked_at: float | None = None
        self._began = monotonic()
        self._steps_done = 0
        self._steps = 1 + 4 + self._hubs + bool(devices)

    async def run(self) -> int:
        """Start everything, wait for the wish to stop, stop everything."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(signum, self._on_signal, signum)
        for line in unknown_settings(self._environ):
            self._tell(line)
        self._home.prepare()
        supervisor = Supervisor(self._lines, SystemRandom())
        with self._home.lock():
            starting = asyncio.create_task(self._start(supervisor))
            stopping = asyncio.create_task(self._stop.wait())
            try:
                await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
                if starting.done():
                    self._announce(await starting)
                    await self._scale_until(stopping)
            except SPOKEN as error:
                self._lines.plain(f"\nfleetwire up: {error}")
                return 1
            finally:
                starting.cancel()
                stopping.cancel()
                await asyncio.gather(starting, stopping, return_exceptions=True)
                began = monotonic()
                await supervisor.stop(self._settings.stop_deadline_s)
                Running.remove(self._home)
                if supervisor.children:
                    self._lines.plain(f"fleetwire: stopped in {monotonic() - began:.1f} s")
        return 0

    async def _scale_until(self, stopping: "asyncio.Task[bool]") -> None:
        """Wait for the wish to stop, with hubs and workers coming and going meanwhile if they shall."""
        scaling = [asyncio.create_task(one.run(), name="autoscale") for one in self._autoscales]
        try:
            await asyncio.wait([*scaling, stopping], return_when=asyncio.FIRST_COMPLETED)
            for task in scaling:
                if task.done():
                    await task  # it never ends by itself
        finally:
            for task in scaling:
                task.cancel()
            await asyncio.gather(*scaling, return_exceptions=True)
            if self._depths is not None:
                await self._depths.close()

    def _on_signal(self, signum: signal.Signals) -> None:
        now = monotonic()
        if self._asked_at is None:
            self._asked_at = now
            self._lines.plain(f"\nfleetwire: stopping ({signum.name}); once more to kill everything at once")
            self._stop.set()
        elif now - self._asked_at > _SAME_WISH_S:
            os._exit(128 + signum)  # the kernel kills every child with us

    async def _start(self, supervisor: Supervisor) -> Running:
        settings = self._settings
        wishes = port_wishes(settings, self._hubs)
        ports = Ports.from_settled(wishes, settle(wishes))
        keys = development_keys(self._home)
        cloud = settings.cloud_root or self._home.cloud
        for folder in (cloud, cloud / "Requests", cloud / "Responses"):
            make_directory(folder, 0o755)

        servers = self._servers(ports)
        database_url = settings.database_url or servers[0].url
        redis_url = settings.redis_url or servers[-1].url
        environment = process_environment(
            self._environ, self._home, keys, cloud=cloud, database_url=database_url, redis_url=redis_url
        )
        groups = processes(ports, keys, self._environ)
        connections = CONNECTIONS_MAX if settings.database_url is None else None
        planned = [process for group in groups for process in group]
        if self._scale is not None:
            later = range(self._hubs + 1, self._scale.hubs_max + 1)
            planned += [hub_process(number, 0, 0, keys, self._environ) for number in later]
            planned += [
                worker_process(number, queue, 0, self._environ)
                for queue in QUEUES
                for number in range(1, self._scale.workers_max + 1)
                if (queue, number) != (QUEUES[0], 1)
            ]
        check_settings(planned, environment, connections=connections)

        specs = [server_spec(server) for server in servers]
        self._steps += len(specs)
        await supervisor.start(*specs, tier=_SERVERS, on_ready=self._on_ready)
        try:
            ran = await runner.migrate(database_url)
        except (OSError, TimeoutError, asyncpg.PostgresError) as error:
            raise OneboxError(f"the database cannot be brought up to date: {type(error).__name__} {error}") from error
        self._step(f"migrations: {len(ran)} new" if ran else "migrations: none new")

        ops: dict[str, int] = {}
        for group in groups:
            ops |= {process.name: process.ops_port for process in group}
            specs = [process.spec(environment) for process in group]
            await supervisor.start(*specs, tier=_PROCESSES, on_ready=self._on_ready)
        running = Running(
            pid=os.getpid(),
            api=f"http://{HOST}:{ports.api}",
            hubs=[f"ws://{HOST}:{port}" for port in ports.hubs],
            files=f"http://{HOST}:{ports.files}",
            cloud=str(cloud),
            database_url=database_url,
            redis_url=redis_url,
            token_keys_file=environment.get("FLEETWIRE_TOKEN_KEYS_FILE"),
            ops=ops,
        )
        running.write(self._home)
        if self._scale is not None:
            self._depths = Depths(running.database_url)
            self._autoscales = autoscalers(
                Ground(self._settings, self._scale, self._home, keys, self._environ, environment),
                supervisor,
                running,
                hubs=groups[1],
                workers=groups[3],
                depths=self._depths,
                say=self._tell,
                rand=SystemRandom(),
            )
        if self._devices:
            spec = simulated_devices(self._devices, running.api, environment)
            await supervisor.start(spec, tier=_DEVICES, on_ready=self._on_ready)
        return running

    def _servers(self, ports: Ports) -> "list[EmbeddedPostgres | EmbeddedValkey]":
        """The servers to embed, Postgres first: those that the environment does not name."""
        servers: list[EmbeddedPostgres | EmbeddedValkey] = []
        if ports.postgres is not None:
            if not (self._home.path / "postgres.location").exists():
                self._lines.plain("fleetwire: first start here, making the database")
            servers.append(EmbeddedPostgres(self._home, ports.postgres, say=self._tell))
        if ports.valkey is not None:
            servers.append(EmbeddedValkey(self._home, ports.valkey))
        return servers

    def _tell(self, what: str) -> None:
        self._lines.plain(f"fleetwire: {what}")

    def _on_ready(self, child: Child) -> None:
        self._step(f"{child.spec.name} is ready")

    def _step(self, what: str) -> None:
        self._steps_done += 1
        seconds = monotonic() - self._began
        self._lines.plain(f"fleetwire: [{self._steps_done}/{self._steps}] {what} ({seconds:.1f} s)")

    def _announce(self, running: Running) -> None:
        count = len(running.hubs)
        requests = shown_path(Path(running.cloud) / "Requests" / "truck-7")
        table, photo = (shown_path(_PROJECT / path) for path in ("examples/load.csv", "infra/demo/files/launch.jpg"))
        self._lines.plain(
            f"""
Fleetwire is ready after {monotonic() - self._began:.1f} s: API {running.api}, {count} hub{"s" * (count > 1)}.
The operators' page: {running.api}/   sign in with what this prints:
  {shown("token --scope operator --subject you")}
Try in another terminal:
  {shown("demo")}
      three devices, three files, every stage in milliseconds
  {shown("device truck-7")}
      a device that prints its events and saves their files; then, in a third terminal, requests for it:
  cp {table} {photo} {requests}/
Ctrl-C stops everything.
"""
        )
        # Two streams on one terminal: first what people read, then the line for programs.
        self._lines.flush()
        print(running.ready_line(), flush=True)
