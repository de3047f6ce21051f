"""The sweep looks at everybody now and then, and at those in doubt often."""

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from hub.store_watch import StoreWatch
from hub.sweep import Sweeper
from shared.hash_slots import slot_of
from shared.store import devices
from shared.store.cursors import Known, Swept
from shared.store.errors import StoreUnavailable
from shared.store.pool import Pool
from tests.hub.conftest import Fleet, until


class Connected:
    """A connection that knows less than the log: each sweep that sees it tells it so."""

    def __init__(self, device_id: str, seen: Counter[str]) -> None:
        self.device_id = device_id
        self._seen = seen

    @property
    def known(self) -> Known:
        return Known(self.device_id, 1, 0, 0, 0)

    def on_swept(self, swept: Swept, known: Known) -> None:
        self._seen[self.device_id] += 1


async def test_only_the_devices_in_doubt_are_swept_often(pool: Pool, fleet: Fleet) -> None:
    names = [await fleet.new_device() for _ in range(2)]
    for name in names:
        await fleet.record(name, 1, publish=False)
    assert await devices.get(pool, names[0]) is not None
    seen: Counter[str] = Counter()
    in_doubt = slot_of(names[0])
    doubtful: list[Callable[[int], bool] | None] = [lambda slot: slot == in_doubt]
    sweeper = Sweeper(
        pool,
        StoreWatch(Random(1), deadline_s=4.0),
        connections=lambda: [Connected(name, seen) for name in names],
        doubtful=lambda: doubtful[0],
        interval_s=3600.0,
        doubt_interval_s=0.01,
        rand=Random(1),
    )
    task = asyncio.create_task(sweeper.run())
    try:
        sweeper.soon()
        await until(lambda: seen[names[0]] >= 10)
        assert seen[names[1]] <= 2
        sweeper.soon()
        before = seen[names[1]]
        await until(lambda: seen[names[1]] > before)
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_sweep_of_all_that_fails_is_made_up_for_with_all(pool: Pool, fleet: Fleet) -> None:
    name, other = await fleet.new_device(), "truck-in-doubt"
    await fleet.record(name, 1, publish=False)
    seen: Counter[str] = Counter()
    failures: list[StoreUnavailable] = []

    def connections() -> list[Connected]:
        if failures:
            raise failures.pop()
        return [Connected(name, seen)]

    sweeper = Sweeper(
        pool,
        StoreWatch(Random(1), deadline_s=4.0),
        connections=connections,
        doubtful=lambda: lambda slot: slot == slot_of(other),
        interval_s=3600.0,
        doubt_interval_s=0.01,
        rand=Random(1),
    )
    task = asyncio.create_task(sweeper.run())
    try:
        sweeper.soon()
        await until(lambda: seen[name] == 1)
        failures.append(StoreUnavailable("away"))
        sweeper.soon()
        await until(lambda: seen[name] == 2)
    finally:
        task.cancel()
        await asyncio.wait([task])
