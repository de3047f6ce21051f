"""Who looks, and what each is still to be sent.

A viewer has no queue: what it has not been sent yet is a map, and a newer value takes the older one's place. So what a
slow viewer costs is bounded by what there is to see.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping

from api.dashboard.state import DEVICE, State, changes, frame
from shared.telemetry.metrics import API_LIVE_PAGES

__all__ = ["Viewer", "Viewers"]


class Viewer:
    """One live page. `wait()` for something to send, then `take()` it."""

    __slots__ = ("_is_new", "_pending", "_wake", "device_keys", "is_closed")

    def __init__(self, device_ids: Iterable[str]) -> None:
        self.device_keys = frozenset(DEVICE + device_id for device_id in device_ids)
        self.is_closed = False
        self._pending: dict[str, bytes | None] = {}
        self._is_new = True
        self._wake = asyncio.Event()

    def __repr__(self) -> str:
        return f"Viewer({len(self._pending)} pending, {len(self.device_keys)} devices)"

    def offer(self, changed: Mapping[str, bytes | None]) -> None:
        """These are new. Never waits."""
        keys = self.device_keys
        wanted = {key: value for key, value in changed.items() if not key.startswith(DEVICE) or key in keys}
        if wanted:
            self._pending |= wanted
            self._wake.set()

    def close(self) -> None:
        """There will be no more."""
        self.is_closed = True
        self._wake.set()

    async def wait(self) -> None:
        """Until there is something to take, or no more comes."""
        await self._wake.wait()

    def take(self) -> bytes:
        """All that is new, as one frame; nothing when there is nothing."""
        self._wake.clear()
        if not self._pending:
            return b""
        taken, self._pending = self._pending, {}
        is_whole, self._is_new = self._is_new, False
        return frame(taken, is_whole=is_whole)


class Viewers:
    """At most `most` viewers, and the newest `state`, which each gets whole when it comes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._viewers: set[Viewer] = set()
        self.state: State = {}
        self._came = asyncio.Event()
        API_LIVE_PAGES.set_function(lambda: len(self._viewers))

    def __len__(self) -> int:
        return len(self._viewers)

    def __repr__(self) -> str:
        return f"Viewers({len(self)} of {self._most}, {len(self.state)} values)"

    def __iter__(self) -> Iterator[Viewer]:
        return iter(self._viewers)

    @property
    def is_full(self) -> bool:
        """Whether one more would be turned away."""
        return len(self._viewers) >= self._most

    def open(self, device_ids: Iterable[str]) -> Viewer | None:
        """A new viewer; None when there are too many. End it by `leave`."""
        if self.is_full:
            return None
        viewer = Viewer(device_ids)
        self._viewers.add(viewer)
        viewer.offer(self.state)
        self._came.set()
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """It looks no more."""
        self._viewers.discard(viewer)

    def device_ids(self) -> list[str]:
        """Of all devices that somebody looks at."""
        keys = frozenset[str]().union(*(viewer.device_keys for viewer in self._viewers))
        return sorted(key.removeprefix(DEVICE) for key in keys)

    async def wait_until_one_came(self) -> None:
        """Until somebody has come since the last call."""
        await self._came.wait()
        self._came.clear()

    def publish(self, state: State) -> None:
        """The newest state: everybody is sent what of it is new."""
        changed = changes(self.state, state)
        self.state = state
        if changed:
            for viewer in self._viewers:
                viewer.offer(changed)

    def forget(self) -> None:
        """What is known is too old for whoever comes next."""
        self.state = {}

    def close(self) -> None:
        """The process leaves: end all streams."""
        self._most = 0
        for viewer in self._viewers:
            viewer.close()
