"""The servers as the keeper asks and tells them. Every answer has a deadline; one that does not come is no answer."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

import redis.asyncio
import redis.exceptions

from infra.redis_keeper.plan import Follow, Forget, Give, Known, Meet, Move, Server, Step, TakeOver, ranges

__all__ = ["Servers", "resolved"]

_BATCH: Final = 100
_MIGRATE_MS: Final = 5_000
_LOST = (OSError, TimeoutError, redis.exceptions.RedisError)


async def resolved(names: Sequence[str]) -> list[str]:
    """Every address (`host:port`) that some names have now. A name that has none is nobody."""
    loop = asyncio.get_running_loop()
    found: set[str] = set()
    for name in names:
        host, _, port = name.rpartition(":")
        try:
            answers = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        except OSError:
            continue
        found |= {f"{answer[4][0]}:{port}" for answer in answers}
    return sorted(found)


class Servers:
    """Connections by address, made when needed, closed when an address is gone."""

    def __init__(self, password: str | None, deadline_s: float) -> None:
        self._password = password
        self._deadline_s = deadline_s
        self._clients: dict[str, redis.asyncio.Redis] = {}
        self.memory: dict[str, float] = {}  # part of the memory that is used, by address

    async def look(self, addresses: Sequence[str]) -> list[Server]:
        """Those that answer."""
        for gone in self._clients.keys() - set(addresses):
            await self._clients.pop(gone).aclose()
            self.memory.pop(gone, None)
        answers = await asyncio.gather(*(self._ask_about(address) for address in addresses))
        return [answer for answer in answers if answer is not None]

    async def take(self, step: Step) -> bool:
        """Whether the step was taken. One that was not is planned anew."""
        try:
            match step:
                case Meet(at, address):
                    host, _, port = address.rpartition(":")
                    await self._tell(at, "CLUSTER", "MEET", host, port, str(await self._bus_port(address)))
                case Forget(at, gone):
                    await self._tell(at, "CLUSTER", "FORGET", gone)
                case Give(at, slots):
                    numbers = [str(number) for pair in ranges(slots) for number in pair]
                    await self._tell(at, "CLUSTER", "ADDSLOTSRANGE", *numbers)
                case Follow(at, master_id):
                    await self._tell(at, "CLUSTER", "REPLICATE", master_id)
                case TakeOver(at):
                    await self._tell(at, "CLUSTER", "FAILOVER", "TAKEOVER")
                case Move(slots, source, target):
                    await self._move(sorted(slots), source, target)
        except _LOST:
            return False
        return True

    async def close(self) -> None:
        """Let all go."""
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()

    async def _ask_about(self, address: str) -> Server | None:
        try:
            async with asyncio.timeout(self._deadline_s):
                server_id = _text(await self._tell(address, "CLUSTER", "MYID"))
                table = tuple(_table(_text(await self._tell(address, "CLUSTER", "NODES"))))
                info = _fields(_text(await self._tell(address, "INFO", "everything")))
        except (*_LOST, ValueError, KeyError):
            self.memory.pop(address, None)
            return None
        allowed = int(info.get("maxmemory", "0"))
        if allowed:
            self.memory[address] = int(info["used_memory"]) / allowed
        offset = int(info.get("slave_repl_offset", info.get("master_repl_offset", "0")))
        return Server(address, server_id, info.get("availability_zone", ""), table, offset)

    async def _bus_port(self, address: str) -> int:
        own = next(
            line for line in _text(await self._tell(address, "CLUSTER", "NODES")).splitlines() if "myself" in line
        )
        return int(own.split()[1].partition(",")[0].rpartition("@")[2])

    async def _move(self, slots: Sequence[int], source: str, target: str) -> None:
        source_id = _text(await self._tell(source, "CLUSTER", "MYID"))
        target_id = _text(await self._tell(target, "CLUSTER", "MYID"))
        host, _, port = target.rpartition(":")
        secret = ("AUTH", self._password) if self._password else ()
        for number in map(str, slots):
            await self._tell(target, "CLUSTER", "SETSLOT", number, "IMPORTING", source_id)
            await self._tell(source, "CLUSTER", "SETSLOT", number, "MIGRATING", target_id)
            while keys := await self._tell(source, "CLUSTER", "GETKEYSINSLOT", number, str(_BATCH)):
                await self._tell(
                    source, "MIGRATE", host, port, "", "0", str(_MIGRATE_MS), "REPLACE", *secret, "KEYS", *keys
                )
            # The one that gets it says so first: were the keeper to end in between, both ways lead to it.
            await self._tell(target, "CLUSTER", "SETSLOT", number, "NODE", target_id)
            await self._tell(source, "CLUSTER", "SETSLOT", number, "NODE", target_id)

    async def _tell(self, address: str, *words: Any) -> Any:
        client = self._clients.get(address)
        if client is None:
            host, _, port = address.rpartition(":")
            client = redis.asyncio.Redis(
                host=host,
                port=int(port),
                password=self._password,
                socket_timeout=self._deadline_s,
                socket_connect_timeout=self._deadline_s,
                protocol=2,
            )
            client.response_callbacks.clear()  # answers as they are
            self._clients[address] = client
        execute: Callable[..., Awaitable[Any]] = client.execute_command
        return await execute(*words)


def _text(answer: Any) -> str:
    return cast("bytes", answer).decode()


def _fields(info: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.splitlines() if ":" in line)


def _table(nodes: str) -> list[Known]:
    """From CLUSTER NODES: `id address flags master ping pong epoch link slots…`."""
    found = []
    for line in nodes.splitlines():
        server_id, _, flags, master_id, _, _, _, _, *slots = line.split()
        states = flags.split(",")
        if "handshake" in states:
            continue
        owned: set[int] = set()
        for part in slots:
            if not part.startswith("["):  # on its way
                first, _, last = part.partition("-")
                owned.update(range(int(first), int(last or first) + 1))
        # One without an address was found to be somebody else there: nobody asks it any more, so nobody says it failed.
        failed = "fail" in states or "noaddr" in states
        found.append(Known(server_id, failed, None if master_id == "-" else master_id, frozenset(owned)))
    return found
