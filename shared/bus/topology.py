"""Keeps the map of which node has which key: asks any node that answers, again after trouble, and now and then anyway.

Whether it is a cluster is the server's word (`mode` in its greeting), not a setting. One Redis is asked once; a
cluster again every half minute or so, and after every sign that the map is old: then several times within a few
seconds, because a failover takes that long and the first to answer may not know of it yet.
"""

import asyncio
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

import hiredis
import structlog

from shared.backoff import Backoff
from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.slot_map import Address, InvalidMap, SlotMap
from shared.bus.waiting import happened
from shared.clock import monotonic
from shared.telemetry.metrics import BUS_MAPS

__all__ = ["Topology"]

REFRESH_S: Final = 30.0
# After trouble: asked again at these distances, and on at the last one for as long as trouble is reported.
_EAGER_S: Final = (0.1, 0.2, 0.3, 0.4, 0.5)
# A node that answers MOVED knows better than a third one whose map was fetched meanwhile: news takes its time.
_MOVED_S: Final = 2.0
# One that does not answer must not keep the others from being asked.
_ASK_MAX_S: Final = 0.5

_log = structlog.get_logger(__name__)


class Topology:
    """`run()` until `close()`. `on_change(map)` is called with the first map and with every one that differs."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        rand: Random,
        deadline_s: float,
        on_change: Callable[[SlotMap], None],
        refresh_s: float = REFRESH_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """`name` is shown by CLIENT LIST."""
        self.seeds = Endpoint.several(url)
        self._name = name
        self._rand = rand
        self._ask_s = min(deadline_s, _ASK_MAX_S)
        self._on_change = on_change
        self._refresh_s = refresh_s
        self._backoff = Backoff(rand, base=0.05, cap=0.5)
        self._clock = clock
        self._moved: dict[int, Address] = {}
        self._lately: dict[int, tuple[Address, float]] = {}
        self._suspects: dict[Endpoint, None] = {}
        self._trouble = asyncio.Event()
        self._closed = asyncio.Event()
        self.is_cluster: bool | None = None
        self.map: SlotMap | None = None

    def __repr__(self) -> str:
        return f"Topology({'cluster' if self.is_cluster else 'single'}, {self.map!r})"

    def endpoint(self, address: Address) -> Endpoint:
        """How to connect to a node: the seeds' credentials at its address."""
        return self.seeds[0] if not self.is_cluster else self.seeds[0].at(address.host, address.port)

    def owner(self, key_slot: int) -> Address | None:
        """Who has this key slot as far as is known now; None when nobody is said to."""
        if self._moved and key_slot in self._moved:
            return self._moved[key_slot]
        return self.map.owner(key_slot) if self.map is not None else None

    def trouble(self, suspect: Endpoint | None = None) -> None:
        """The map may be old. `suspect` is asked last: it is the one that failed."""
        if suspect is not None:
            self._suspects[suspect] = None
        self._trouble.set()

    def moved(self, key_slot: int, address: Address) -> None:
        """A node said so: `owner` believes it at once and for a while whatever other nodes say; `on_change` follows."""
        if not self.is_cluster:
            return
        if not self._moved:
            asyncio.get_running_loop().call_soon(self._apply_moved)
        self._moved[key_slot] = address
        self._lately[key_slot] = (address, self._clock())
        self._trouble.set()

    async def run(self) -> None:
        """Ask until `close()`."""
        pauses: list[float] = []
        while not self._closed.is_set():
            self._trouble.clear()
            if not await self._refresh():
                await happened(self._closed, self._backoff.next())
                continue
            self._backoff.reset()
            if self.is_cluster and pauses:
                pause = pauses.pop(0)
                # Not sooner, whatever is reported meanwhile.
                await happened(self._closed, pause * self._rand.uniform(0.5, 1.0))
                if self._trouble.is_set() and not pauses:
                    pauses.append(pause)
            elif await happened(
                self._trouble, self._refresh_s * self._rand.uniform(0.5, 1.5) if self.is_cluster else None
            ):
                pauses = list(_EAGER_S)

    def close(self) -> None:
        """End `run()`."""
        self._closed.set()
        self._trouble.set()

    async def _refresh(self) -> bool:
        for endpoint in self._to_ask():
            try:
                found = await self._ask(endpoint)
            except (OSError, resp.RedisRefused, InvalidMap) as error:
                self._suspects[endpoint] = None
                if self._backoff.attempt == 1:
                    _log.warning("Redis cannot be asked for its nodes", redis=str(endpoint), error=repr(error))
                if self._closed.is_set():
                    return False
                continue
            self._suspects.pop(endpoint, None)
            self._take(found)
            return True
        return False

    def _to_ask(self) -> list[Endpoint]:
        if self.map is None or not self.is_cluster:
            nodes = list(self.seeds)
        else:
            known = [self.endpoint(address) for address in sorted(self.map.nodes)]
            self._rand.shuffle(known)
            nodes = list(dict.fromkeys([*known, *self.seeds]))
        suspects = set(self._suspects)
        self._suspects.clear()
        return [one for one in nodes if one not in suspects] + [one for one in nodes if one in suspects]

    async def _ask(self, endpoint: Endpoint) -> tuple[bool, SlotMap]:
        """Whether it is a cluster, and its map."""
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def take(reply: Any) -> None:
            if not answer.done():
                answer.set_result(reply)

        async with asyncio.timeout(self._ask_s):
            connection = await resp.connect(
                endpoint,
                deadline_s=self._ask_s,
                name=f"{self._name}-map",
                on_reply=take,
                on_lost=lambda: take(ConnectionResetError("Redis closed the connection")),
            )
            try:
                asked = Address(endpoint.host, endpoint.port)
                if not connection.server.is_cluster:
                    return False, SlotMap.single(asked)
                connection.write(resp.pack(("CLUSTER", "SLOTS")))
                reply = await answer
            finally:
                connection.abort()
        if isinstance(reply, OSError):
            raise reply
        if isinstance(reply, hiredis.ReplyError):
            raise resp.RedisRefused(str(reply))
        found = SlotMap.from_cluster_slots(reply, asked)
        if not found.owners:
            raise InvalidMap("the cluster has no key slots yet")
        return True, found

    def _take(self, found: tuple[bool, SlotMap]) -> None:
        is_cluster, slots = found
        if not is_cluster:
            if len(self.seeds) > 1 and self.map is None:
                _log.error("several addresses of Redis are given and it is no cluster: only the first is used")
            slots = SlotMap.single(Address(self.seeds[0].host, self.seeds[0].port))
        now = self._clock()
        self._lately = {slot: one for slot, one in self._lately.items() if now - one[1] < _MOVED_S}
        if self._lately:
            slots = slots.with_moved({slot: address for slot, (address, _) in self._lately.items()})
        BUS_MAPS.labels("same" if slots == self.map else "changed").inc()
        self._moved.clear()
        if slots == self.map and is_cluster == self.is_cluster:
            return
        if is_cluster or self.map is not None:
            _log.info("nodes of Redis", cluster=is_cluster, map=repr(slots), before=repr(self.map))
        self.is_cluster, self.map = is_cluster, slots
        self._on_change(slots)

    def _apply_moved(self) -> None:
        moved: Mapping[int, Address] = {
            slot: address
            for slot, address in self._moved.items()
            if self.map is not None and self.map.owner(slot) != address
        }
        self._moved.clear()
        if self.map is None or not moved or self._closed.is_set():
            return
        _log.info("key slots moved", slots=len(moved))
        self.map = self.map.with_moved(moved)
        self._on_change(self.map)
