"""A Valkey cluster of three primaries with a replica each: six real processes on one machine, formed without tools.

For tests and load runs that break it: nodes can be killed, stopped for a while and started again, key slots moved and
primaries failed over. `heal()` makes it whole again, whatever was done to it.
"""

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import redis

from infra.onebox.spawn import launch_arguments
from infra.onebox.valkey import find_server
from loadtests.ports import free_port
from loadtests.run_folder import run_folder
from shared.bus.slot_map import KEY_SLOTS

__all__ = ["Node", "ValkeyCluster", "running_cluster"]

PRIMARIES: Final = 3
_SETTINGS: Final = {
    "bind": "127.0.0.1",
    "daemonize": "no",
    "loglevel": "notice",
    "logfile": '""',
    "save": '""',
    "appendonly": "no",
    "cluster-enabled": "yes",
    "cluster-replica-validity-factor": "0",
    "repl-diskless-sync-delay": "0",
    "repl-ping-replica-period": "1",
}


class Node:
    """One server of the cluster, running or not."""

    def __init__(self, folder: Path, ports: tuple[int, int], password: str, settings: dict[str, str]) -> None:
        # The second is for the nodes among themselves; left alone it would be one that others may have.
        self.port, self.bus_port = port, bus_port = ports
        # Where others are told to find it: a relay's port, or its own.
        self.seen_port = int(settings.get("cluster-announce-port", port))
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.is_paused = False
        folder.mkdir(mode=0o700)
        own = {
            "port": str(port),
            "cluster-port": str(bus_port),
            "dir": f'"{folder}"',
            "requirepass": password,
            "primaryauth": password,
        }
        lines = [f"{key} {value}\n" for key, value in (_SETTINGS | settings | own).items()]
        (folder / "valkey.conf").touch(mode=0o600)
        (folder / "valkey.conf").write_text("".join(lines))
        self.client = redis.Redis(
            host="127.0.0.1", port=port, password=password, protocol=3, socket_timeout=2, decode_responses=True
        )

    def __repr__(self) -> str:
        return f"Node({self.port}, {'running' if self.process else 'stopped'})"

    def start(self) -> None:
        """Start it and return at once."""
        assert self.process is None, "runs already"
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                launch_arguments([str(find_server()), str(self.folder / "valkey.conf")], death_signal=signal.SIGKILL),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
            )

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None
        self.is_paused = False
        self.client.connection_pool.disconnect()

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        assert self.process is not None, "does not run"
        self.is_paused = True
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGCONT)
        self.is_paused = False

    def ask(self, *command: Any) -> Any:
        """One command to this very node."""
        execute: Callable[..., Any] = self.client.execute_command
        return execute(*command)

    def says(self, section: str, key: str) -> str:
        """A line of INFO or CLUSTER INFO, empty when it does not answer."""
        if self.process is not None and self.process.poll() is not None:
            raise AssertionError(f"{self} ended: {(self.folder / 'log').read_text()[-1000:]}")
        try:
            found = self.ask("CLUSTER INFO") if section == "cluster" else self.client.info(section)
        except (OSError, redis.RedisError):
            return ""
        return str(found.get(key, "")) if isinstance(found, dict) else ""


class ValkeyCluster:
    """Six nodes; `url` names all of them."""

    def __init__(self, folder: Path, *, node_timeout_ms: int = 1000, relayed: bool = False, **settings: str) -> None:
        """`relayed`: each node is announced at a free port (`seen_port`), where somebody is to stand before it."""
        self.password = secrets.token_hex(16)
        settings |= {"cluster-node-timeout": str(node_timeout_ms)}
        ports: set[int] = set()
        while len(ports) < 4 * PRIMARIES:
            ports.add(free_port())
        pairs = zip(sorted(ports)[: 2 * PRIMARIES], sorted(ports)[2 * PRIMARIES :], strict=True)
        self.nodes = [
            Node(
                folder / str(pair[0]),
                pair,
                self.password,
                settings | ({"cluster-announce-port": str(free_port())} if relayed else {}),
            )
            for pair in pairs
        ]

    @property
    def url(self) -> str:
        """The address with the password in it."""
        hosts = ",".join(f"127.0.0.1:{node.seen_port}" for node in self.nodes)
        return f"redis://:{self.password}@{hosts}"

    def start(self) -> None:
        """Start all six and make them a cluster."""
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            wait(lambda node=node: node.says("server", "redis_version"), f"{node} answers")  # type: ignore[misc]
        first, *others = self.nodes
        share = -(-KEY_SLOTS // PRIMARIES)
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for number, node in enumerate(self.nodes[:PRIMARIES]):
            node.ask("CLUSTER", "ADDSLOTSRANGE", number * share, min((number + 1) * share, KEY_SLOTS) - 1)
        for node in others:
            first.ask("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus_port)
        for replica, primary in zip(self.nodes[PRIMARIES:], self.nodes[:PRIMARIES], strict=True):
            self.replicate(replica, primary)
        self.wait_whole()

    def replicate(self, replica: Node, primary: Node) -> None:
        """Make a node a replica, as soon as the two know each other."""
        primary_id = primary.ask("CLUSTER", "MYID")

        def done() -> bool:
            try:
                replica.ask("CLUSTER", "REPLICATE", primary_id)
            except redis.ResponseError:
                return False
            return True

        wait(done, f"{replica} replicates {primary}")

    def wait_whole(self, deadline_s: float = 20.0) -> None:
        """Until every node sees a cluster that is well, with three primaries and their replicas attached."""
        for node in self.nodes:
            wait(lambda node=node: node.says("cluster", "cluster_state") == "ok", f"{node} is well", deadline_s)  # type: ignore[misc]
            wait(lambda node=node: self._is_attached(node), f"{node} is attached", deadline_s)  # type: ignore[misc]
        wait(lambda: len(self.primaries()) == PRIMARIES and self._agree(), "three primaries", deadline_s)

    def _agree(self) -> bool:
        return len({tuple(sorted(_ranges(node.ask("CLUSTER SLOTS")))) for node in self.nodes}) == 1

    @staticmethod
    def _is_attached(node: Node) -> bool:
        role = node.says("replication", "role")
        return role == "master" or (role == "slave" and node.says("replication", "master_link_status") == "up")

    def heal(self) -> None:
        """Make it whole again."""
        for node in self.nodes:
            node.resume()
            if node.process is None or node.process.poll() is not None:
                node.process = None
                node.start()
        self.wait_whole()

    def stop(self) -> None:
        """End all six."""
        for node in self.nodes:
            node.resume()
            node.kill()

    def primaries(self) -> list[Node]:
        """The nodes that have key slots now and say so themselves."""
        return [node for node in self.nodes if any(True for _ in self.ranges(node))]

    @staticmethod
    def ranges(node: Node) -> list[tuple[int, int]]:
        """The key slots that a node says are its own."""
        if node.process is None or node.is_paused or node.says("replication", "role") != "master":
            return []
        return [(first, last) for first, last, port in _ranges(node.ask("CLUSTER SLOTS")) if port == node.seen_port]

    def owner(self, key_slot: int) -> Node:
        """The primary that has a key slot."""
        for node in self.nodes:
            if any(first <= key_slot <= last for first, last in self.ranges(node)):
                return node
        raise AssertionError(f"nobody has key slot {key_slot}")

    def replica_of(self, primary: Node) -> Node:
        """A replica that is attached to a primary."""
        for node in self.nodes:
            if node is not primary and node.says("replication", "master_port") == str(primary.seen_port):
                return node
        raise AssertionError(f"{primary} has no replica")

    def move(self, key_slots: Iterable[int], source: Node, target: Node) -> None:
        """Give empty key slots (ours hold no keys but streams and locks) from one primary to another."""
        source_id, target_id = source.ask("CLUSTER", "MYID"), target.ask("CLUSTER", "MYID")
        for key_slot in key_slots:
            target.ask("CLUSTER", "SETSLOT", key_slot, "IMPORTING", source_id)
            source.ask("CLUSTER", "SETSLOT", key_slot, "MIGRATING", target_id)
            while keys := source.ask("CLUSTER", "GETKEYSINSLOT", key_slot, 100):
                source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 2000, "AUTH", self.password, "KEYS", *keys)
            target.ask("CLUSTER", "SETSLOT", key_slot, "NODE", target_id)
            source.ask("CLUSTER", "SETSLOT", key_slot, "NODE", target_id)

    def fail_over(self, primary: Node) -> Node:
        """Let the replica take over in an orderly way. Returns the new primary."""
        replica = self.replica_of(primary)
        replica.ask("CLUSTER", "FAILOVER")
        wait(lambda: replica.says("replication", "role") == "master", f"{replica} takes over")
        # For a moment both say so.
        wait(lambda: primary.says("replication", "role") != "master", f"{primary} steps down")
        wait(lambda: len(self.primaries()) == PRIMARIES and self._agree(), "all agree on it")
        return replica


def _ranges(reply: Any) -> Iterator[tuple[int, int, int]]:
    """(first, last, port of the owner), from redis-py's form of CLUSTER SLOTS or the server's own."""
    if isinstance(reply, dict):
        for (first, last), shard in reply.items():
            yield first, last, int(shard["primary"][1])
    else:
        for first, last, owner, *_ in reply:
            yield first, last, int(owner[1])


def wait(condition: Callable[[], Any], what: str, deadline_s: float = 20.0) -> None:
    """Until a condition holds, blocking. Raises AssertionError."""
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"not within {deadline_s:.0f} s: {what}")
        time.sleep(0.02)


@contextmanager
def running_cluster(*, node_timeout_ms: int = 1000, relayed: bool = False, **settings: str) -> Iterator[ValkeyCluster]:
    """A cluster for the length of a block, in a folder that is removed."""
    with run_folder("fleetwire-cluster-") as folder:
        cluster = ValkeyCluster(folder, node_timeout_ms=node_timeout_ms, relayed=False, **settings)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
