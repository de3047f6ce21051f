"""What a run against one hub stands on: a Postgres, a Valkey, keys, devices that exist, and the hub as a process.

Nothing else runs, so what is measured is theirs. Servers listen on free ports in a temporary folder and die with us.
"""

import asyncio
import json
import secrets
import socket
import subprocess
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
import httpx

from infra.migrations.runner import migrate
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.valkey import EmbeddedValkey
from loadtests.ports import free_port
from loadtests.process import start_python
from loadtests.run_folder import run_folder
from shared.tokens import KeyRing, Scope

__all__ = ["Hub", "Stand", "child", "running_stand", "wait_listening"]

_EPOCH: Final = 1


class Stand:
    """Postgres, Valkey and a key ring; `hub()` starts a hub on them."""

    def __init__(self, folder: Path, postgres: EmbeddedPostgres, valkey: EmbeddedValkey) -> None:
        self.folder = folder
        self.postgres = postgres
        self.valkey = valkey
        self._token_keys, self._ticket_keys, self._files_keys = _keys("tokens"), _keys("tickets"), _keys("files")
        self._ring = KeyRing.from_jwks(self._token_keys)
        self.pids: dict[str, int] = {}

    def token(self, device_id: str) -> str:
        """A device's bearer token."""
        return self._ring.mint(
            subject=device_id, scopes=frozenset({"device"}), now=time.time(), lifetime_s=6 * 3600, device_class="truck"
        )

    def bearer(self, subject: str, scope: Scope) -> str:
        """Anybody's bearer token."""
        return self._ring.mint(subject=subject, scopes=frozenset({scope}), now=time.time(), lifetime_s=6 * 3600)

    def api_environment(self, **settings: str) -> dict[str, str]:
        """What an API process on these servers is told."""
        return {
            "FLEETWIRE_DATABASE_URL": self.postgres.url,
            "FLEETWIRE_REDIS_URL": self.valkey.url,
            "FLEETWIRE_TOKEN_KEYS": self._token_keys,
            "FLEETWIRE_TICKET_KEYS": self._ticket_keys,
            "FLEETWIRE_FILES_KEYS": self._files_keys,
            "FLEETWIRE_API_RATE_LIMITS": "off",
            "FLEETWIRE_LOG_LEVEL": "warning",
            **settings,
        }

    async def query(self, statement: str, *arguments: Any) -> list[Any]:
        """Rows, over a connection of its own."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            return list(await connection.fetch(statement, *arguments))
        finally:
            await connection.close()

    async def make_devices(self, device_ids: Sequence[str]) -> None:
        """Rows as the first token would make them."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute(
                "WITH made AS (INSERT INTO devices (device_id, class, epoch) SELECT unnest($1::text[]), 'truck', $2 "
                "ON CONFLICT DO NOTHING RETURNING device_id) "
                "INSERT INTO cursors (device_id, epoch) SELECT device_id, $2 FROM made",
                device_ids,
                _EPOCH,
            )
            await connection.execute("VACUUM ANALYZE devices, cursors")
        finally:
            await connection.close()

    async def pretend_heads(self, head: int) -> None:
        """Say that every log is so long and nothing of it is acked, where events go to the bus only."""
        connection = await asyncpg.connect(self.postgres.url)
        try:
            await connection.execute("UPDATE cursors SET acked_seq = 0")
            await connection.execute("UPDATE devices SET head_seq = $1", head)
        finally:
            await connection.close()

    @contextmanager
    def hub(self, *, capacity: int, **settings: str) -> Iterator["Hub"]:
        """A hub for the length of a block, with room for `capacity` devices that may all come at once."""
        port, ops_port = free_port(), free_port()
        environment = {
            "FLEETWIRE_DATABASE_URL": self.postgres.url,
            "FLEETWIRE_REDIS_URL": self.valkey.url,
            "FLEETWIRE_TOKEN_KEYS": self._token_keys,
            "FLEETWIRE_TICKET_KEYS": self._ticket_keys,
            "FLEETWIRE_HUB_NAME": "load",
            "FLEETWIRE_HUB_PORT": str(port),
            "FLEETWIRE_OPS_PORT": str(ops_port),
            "FLEETWIRE_HUB_CAPACITY": str(capacity),
            "FLEETWIRE_HUB_HANDSHAKES_MAX": str(max(2000, capacity)),
            "FLEETWIRE_HUB_HANDSHAKES_BURST": str(max(1000, 2 * capacity)),
            "FLEETWIRE_LOG_LEVEL": "warning",
            **settings,
        }
        with (self.folder / "hub.log").open("ab") as log:
            process = start_python("hub", environ=environment, log=log)
        try:
            wait_listening(port)
            yield Hub(process.pid, port, ops_port)
        finally:
            _end(process)
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


def _keys(key_id: str) -> str:
    key = urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return json.dumps({"keys": [{"kty": "oct", "kid": key_id, "alg": "HS256", "k": key}]})


class Hub:
    """A hub that takes devices."""

    def __init__(self, pid: int, port: int, ops_port: int) -> None:
        self.pid = pid
        self.port = port
        self._ops_port = ops_port

    @property
    def url(self) -> str:
        """Where devices connect."""
        return f"ws://127.0.0.1:{self.port}/v1/socket"

    def wait_settled(self, *, within_s: float = 30.0, still_s: float = 0.5) -> None:
        """Until it is ready and sweeps no more: it does so when it comes to trust its bus. Raises TimeoutError."""
        began = time.monotonic()
        sweeps, since = "", began
        with httpx.Client(base_url=f"http://127.0.0.1:{self._ops_port}", timeout=5.0, trust_env=False) as client:
            while time.monotonic() - since < still_s:
                if time.monotonic() - began > within_s:
                    raise TimeoutError("the hub is not ready, or sweeps all the time")
                metrics = client.get("/metrics").text.splitlines()
                now = next(line for line in metrics if line.startswith("fleetwire_hub_sweep_seconds_count"))
                if now != sweeps or not client.get("/ready").is_success:
                    sweeps, since = now, time.monotonic()
                time.sleep(0.05)


@contextmanager
def running_stand(*, durable: bool = True, postgres_settings: Mapping[str, str] | None = None) -> Iterator[Stand]:
    """A migrated Postgres and a Valkey. `durable=False` saves the disk where the log is only scenery."""
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder("fleetwire-load-"))
        home = Home(folder / "home")
        home.prepare()
        postgres = EmbeddedPostgres(home, port=free_port(), durable=durable, settings=dict(postgres_settings or {}))
        valkey = EmbeddedValkey(home, port=free_port())
        stand = Stand(folder, postgres, valkey)
        for server in (postgres, valkey):
            server.prepare()
            process = stack.enter_context(
                child(server.launch_arguments(), folder / f"{server.name}.log", server.environment())
            )
            stand.pids[server.name] = process.pid

        async def ready() -> None:
            await postgres.wait_ready(60)
            await valkey.wait_ready(30)
            await migrate(postgres.url)

        asyncio.run(ready())
        yield stand


@contextmanager
def child(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str], *, folder: Path | None = None
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program for the length of a block, its words in `log`."""
    with log.open("ab") as output:
        process = subprocess.Popen(arguments, stdout=output, stderr=output, cwd=folder or "/", env=environment)
    try:
        yield process
    finally:
        _end(process)


def wait_listening(port: int, deadline_s: float = 30.0) -> None:
    """Return once somebody listens there."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            if time.monotonic() > end:
                raise RuntimeError(f"nothing listens on {port} after {deadline_s:g} s") from None
            time.sleep(0.05)


def _end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
