"""A RabbitMQ of one's own, for tests and load runs: the distribution's server as a child of this process.

It listens on free ports of the loopback address, knows no other node, and keeps everything in one folder: its data, its
cookie, its configuration. Erlang's port mapper, which would else be started for the whole machine and stay, is a child
as well.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from infra.onebox.spawn import launch_arguments
from loadtests.ports import free_port

__all__ = ["RABBIT_MISSING", "RabbitServer", "server_script"]

_PLACES: Final = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")
RABBIT_MISSING: Final = "RabbitMQ is not installed (apt-get install rabbitmq-server)"
_START_S: Final = 150.0
_USER, _PASSWORD = "fleetwire", "p@ss:w/rd"
_ARGUMENTS: Final = "-noinput -kernel inet_dist_use_interface {127,0,0,1} +S 1:1 +SDcpu 1:1 +sbwt none +sbwtdcpu none"


def server_script() -> Path | None:
    """What starts a server as whoever calls it; not what is on PATH, which insists on a user and folders of its own."""
    found = [Path(place) for place in _PLACES if Path(place).exists()]
    return found[0] if found and shutil.which("epmd") and shutil.which("erl") else None


class RabbitServer:
    """`start()`, `stop()`; in between `kill()`, `pause()`, `resume()`. Addresses stay the same."""

    def __init__(self, folder: Path, *, certificate: Path | None = None, key: Path | None = None) -> None:
        """With a certificate it listens with TLS as well."""
        self._folder = folder
        self.certificate, self._key = certificate, key
        self.port = free_port()
        self.tls_port = free_port() if certificate is not None else None
        self._mapper_port, self._node_port = free_port(), free_port()
        self._mapper: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._is_paused = False

    def __repr__(self) -> str:
        return f"RabbitServer(port {self.port}, {'runs' if self._server else 'stopped'})"

    @property
    def url(self) -> str:
        """Its address with the password in it."""
        return f"amqp://{_USER}:p%40ss%3Aw%2Frd@127.0.0.1:{self.port}/%2F"

    @property
    def tls_url(self) -> str:
        """The same with TLS. Add `?cafile=…` for a certificate that nobody else vouches for."""
        return f"amqps://{_USER}:p%40ss%3Aw%2Frd@127.0.0.1:{self.tls_port}/%2F"

    @property
    def pids(self) -> list[int]:
        """The processes that it is now."""
        return [process.pid for process in (self._server, self._mapper) if process is not None]

    def log(self) -> str:
        """What it said so far."""
        return (self._folder / "log").read_text("utf-8", "replace")

    def start(self) -> None:
        """Start it and wait until clients are served. Blocks for seconds."""
        self.launch()
        with ThreadPoolExecutor(1) as apart:  # the caller's loop may be running
            apart.submit(asyncio.run, self.wait_ready()).result()

    def revive(self) -> None:
        """Make it run, whatever was done to it."""
        if self._is_paused:
            self.resume()
        if self._server is None:
            self.start()

    def launch(self) -> None:
        """Start it and return at once."""
        assert self._server is None, "runs already"
        script, mapper = server_script(), shutil.which("epmd")
        if script is None or mapper is None:
            raise RuntimeError(RABBIT_MISSING)
        self._configure()
        environment = self._environment()
        if self._mapper is None:
            mapping = [mapper, "-port", str(self._mapper_port), "-address", "127.0.0.1", "-relaxed_command_check"]
            self._mapper = _child(mapping, environment, self._folder / "epmd.log")
        self._server = _child([str(script)], environment, self._folder / "log")

    async def wait_ready(self, deadline_s: float = _START_S) -> None:
        """Return once clients are served. Raises AssertionError with what it said."""
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    assert self._server is not None, "not launched"
                    if (status := self._server.poll()) is not None:
                        raise AssertionError(f"RabbitMQ ended with {status}\n{self.log()[-4000:]}")
                    if await self._answers():
                        return
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise AssertionError(f"RabbitMQ is not ready after {deadline_s:g} s\n{self.log()[-4000:]}") from None

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way, and the port mapper with it."""
        self._end(signal.SIGTERM)
        mapper, self._mapper = self._mapper, None
        if mapper is not None:
            mapper.kill()
            mapper.wait(10)

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        assert self._server is not None, "not running"
        self._server.send_signal(signal.SIGSTOP)
        self._is_paused = True

    def resume(self) -> None:
        """Go on after `pause()`."""
        assert self._server is not None, "not running"
        self._server.send_signal(signal.SIGCONT)
        self._is_paused = False

    def _end(self, signum: signal.Signals) -> None:
        if self._server is None:
            return
        if self._is_paused:
            self.resume()
        process, self._server = self._server, None
        process.send_signal(signum)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)

    async def _answers(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return "Server startup complete" in self.log().rpartition("Starting RabbitMQ")[2]

    def _configure(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lines = {
            "listeners.tcp.1": f"127.0.0.1:{self.port}",
            "default_user": _USER,
            "default_pass": _PASSWORD,
            "log.console": "true",
            "log.file": "false",
            "disk_free_limit.absolute": "1MB",
            "num_acceptors.tcp": "2",
        }
        if self.tls_port is not None:
            lines |= {
                "listeners.ssl.1": f"127.0.0.1:{self.tls_port}",
                "ssl_options.certfile": str(self.certificate),
                "ssl_options.keyfile": str(self._key),
                "ssl_options.verify": "verify_none",
            }
        cookie = self._folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.touch(0o600)
            cookie.write_text(os.urandom(16).hex())
            cookie.chmod(0o400)
        (self._folder / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
        (self._folder / "enabled_plugins").write_text("[].")

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "HOME": folder,
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_NODENAME": f"fleetwire-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(self._node_port),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            # Makes the start script become the server, so that the child we know is the server itself.
            "RABBITMQ_ALLOW_INPUT": "1",
            "RABBITMQ_SERVER_START_ARGS": _ARGUMENTS,
        }


def _child(program: list[str], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("ab") as said:
        return subprocess.Popen(
            launch_arguments(program), cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said
        )
