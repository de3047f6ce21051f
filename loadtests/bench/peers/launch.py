"""The servers of a comparison, each started for the length of a block: the relay, the hub and the peers.

All of them are single processes on the same Valkey; what each is given beyond its defaults is said here.
"""

import os
import resource
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.onebox.spawn import launch_arguments
from loadtests.bench.devices import build
from loadtests.bench.peers.environment import install_node, install_python
from loadtests.ports import free_port
from loadtests.stand import Stand, child, wait_listening

__all__ = ["BESIDE", "SERVERS", "Environments", "Running", "start"]

SERVERS: Final = ("relay", "hub", "socket.io", "python-socketio", "channels")
# What shows where the hub's cost comes from: a relay like the bare one in Python, and a hub that never rests.
BESIDE: Final = ("python-relay", "hub-no-waves")
DIALECTS: Final = dict.fromkeys(("relay", "hub", *BESIDE), "fleetwire") | {"python-socketio": "socket.io"}
"""How a server's devices speak; by default by the server's own name."""

_PROGRAMS: Final = Path(__file__).parent / "servers"


class Running:
    """A server that listens. `wait_settled` waits until it has nothing of its own to do any more."""

    def __init__(self, name: str, pid: int, port: int, wait_settled: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self.pid = pid
        self.port = port
        self.wait_settled = wait_settled

    @property
    def dialect(self) -> str:
        """How its devices speak."""
        return DIALECTS.get(self.name, self.name)

    @property
    def speaks(self) -> str:
        """How it is published to."""
        return "fleetwire" if self.dialect == "fleetwire" else self.name


class Environments:
    """Where the peers are installed, each environment made when it is first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}

    @property
    def python(self) -> Path:
        """The Python that has the peers in Python. Raises NotInstalled."""
        if "python" not in self._made:
            self._made["python"] = install_python(self._folder / "python")
        return self._made["python"]

    @property
    def node(self) -> Path:
        """The folder with Socket.IO. Raises NotInstalled."""
        if "node" not in self._made:
            self._made["node"] = install_node(self._folder / "node")
        return self._made["node"]


@contextmanager
def start(name: str, stand: Stand, environments: Environments, devices: int) -> Iterator[Running]:
    """Start one with room for `devices`. Raises NotInstalled."""
    if name in ("hub", "hub-no-waves"):
        # The sweep would find that what is only published is not in the log, and a canary that is late makes it sweep.
        settings = {"FLEETWIRE_HUB_SWEEP_S": "3600", "FLEETWIRE_HUB_CANARY_S": "2"}
        if name == "hub-no-waves":
            settings["FLEETWIRE_HUB_WAVE_S"] = "0"
        with stand.hub(capacity=devices + 10, **settings) as hub:
            yield Running(name, hub.pid, hub.port, hub.wait_settled)
        return
    port = free_port()
    command = launch_arguments(_command(name, stand, environments, port))
    folder = environments.node if name == "socket.io" else None
    environment = {"PATH": os.environ.get("PATH", os.defpath), "PEER_REDIS_URL": stand.valkey.url}
    log = stand.folder / f"{name}.log"
    with _raised_open_files(), child(command, log, environment, folder=folder) as process:
        wait_listening(port)
        yield Running(name, process.pid, port)


def _command(name: str, stand: Stand, environments: Environments, port: int) -> Sequence[str]:
    match name:
        case "relay" | "python-relay":
            password = stand.valkey.home.password("valkey-password")
            program = [str(build("relay", stand.folder))]
            if name == "python-relay":
                program = [sys.executable, str(_PROGRAMS / "python_relay.py")]
            return [*program, str(port), str(stand.valkey.port), password]
        case "socket.io":
            return [str(shutil.which("node")), str(_PROGRAMS / "socketio_node.mjs"), str(port)]
        case "python-socketio":
            return [str(environments.python), str(_PROGRAMS / "python_socketio.py"), str(port)]
        case "channels":
            return [str(environments.python), str(_PROGRAMS / "django_channels.py"), str(port)]
    raise ValueError(f"{name}: there are {', '.join(SERVERS)}")


@contextmanager
def _raised_open_files() -> Iterator[None]:
    """Children may open as many files as they are allowed to; the hub sees to that itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
