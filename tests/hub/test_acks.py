"""Acks on their way to Postgres: only the highest, bounded, never lost by a failure."""

import asyncio
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from hub.acks import AckBook, AckWriter
from hub.store_watch import StoreWatch
from shared.store import cursors, devices
from shared.store.cursors import Ack, Greeting
from shared.store.errors import StoreUnavailable
from shared.store.pool import Pool
from shared.telemetry.metrics import HUB_ACKS_DROPPED
from tests.hub.conftest import Fleet


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 50), st.booleans())))
def test_what_is_written_in_the_end_is_the_highest_of_each_device(steps: list[tuple[str, int, int, bool]]) -> None:
    book = AckBook(10)
    highest: dict[str, tuple[int, int]] = {}
    for device, epoch, seq, fails in steps:
        book.note(device, epoch, seq)
        highest[device] = max(highest.get(device, (0, 0)), (epoch, seq))
        if fails:
            taken = book.take(2)
            book.note(device, epoch, seq)
            book.put_back(taken)
    assert sorted(book.take(10)) == sorted(Ack(device, *position) for device, position in highest.items())
    assert len(book) == 0


def test_the_book_is_bounded_by_devices_and_counts_what_it_gives_up() -> None:
    book = AckBook(2)
    dropped = HUB_ACKS_DROPPED._value.get()
    for device in ("a", "b", "c"):
        book.note(device, 1, 1)
    assert HUB_ACKS_DROPPED._value.get() == dropped + 1
    book.note("c", 1, 5)
    assert (len(book), book.dropped) == (2, 1)
    assert book.take(5) == [Ack("b", 1, 1), Ack("c", 1, 5)]


class HeldPool:
    """The real pool, that waits before statements with this text until it is let go."""

    def __init__(self, pool: Pool, text: str) -> None:
        self._pool = pool
        self._text = text
        self.asked = asyncio.Event()
        self.go = asyncio.Event()

    async def fetch(self, statement: str, *arguments: object) -> list[object]:
        if self._text in statement:
            self.asked.set()
            await self.go.wait()
        return await self._pool.fetch(statement, *arguments)


def writer_on(pool: object) -> AckWriter:
    watch = StoreWatch(Random(1), deadline_s=10.0)
    return AckWriter(pool, watch, on_refused=lambda ack, result: None, pause_s=0.001, devices_max=10)  # type: ignore[arg-type]


async def connected(pool: Pool, device_id: str, times: int) -> None:
    for attempt in range(times):
        await cursors.greet(pool, [Greeting(device_id, "0b8a3e3c-7a0a-4a53-9f58-111111111111", attempt, "hub-1")])
    await pool.fetch("UPDATE cursors SET flaps = $2 WHERE device_id = $1", device_id, times)


async def flaps(pool: Pool, device_id: str) -> int:
    rows = await pool.fetch("SELECT flaps FROM cursors WHERE device_id = $1", device_id)
    return round(float(rows[0]["flaps"]))


async def test_each_connection_that_the_hub_ended_is_excused_and_no_other(fleet: Fleet, pool: Pool) -> None:
    truck = await fleet.new_device()
    await connected(pool, truck, 4)
    writer = writer_on(pool)
    writer.departed(truck, 1, excused=True)
    writer.departed(truck, 3, excused=True)
    writer.departed(truck, 4)
    writer.departed(truck, 2)
    assert await writer.flush(10)
    state = await devices.get(pool, truck)
    assert state is not None
    assert (await flaps(pool, truck), state.hub) == (2, None)


async def test_an_excuse_that_is_being_written_does_not_excuse_the_next_connection(fleet: Fleet, pool: Pool) -> None:
    truck = await fleet.new_device()
    await connected(pool, truck, 2)
    held = HeldPool(pool, "disconnected_at")
    writer = writer_on(held)
    writer.departed(truck, 1, excused=True)
    flushing = asyncio.create_task(writer.flush(10))
    async with asyncio.timeout(10):
        await held.asked.wait()
        writer.departed(truck, 2)
        held.go.set()
        assert await flushing
    assert await flaps(pool, truck) == 1


async def test_a_flush_waits_for_what_is_just_being_written(fleet: Fleet, pool: Pool) -> None:
    truck = await fleet.new_device()
    await fleet.record(truck, 1, publish=False)
    held = HeldPool(pool, "acked_seq = i.seq")
    writer = writer_on(held)
    writer.book.note(truck, 1, 1)
    running = asyncio.create_task(writer.run())
    async with asyncio.timeout(10):
        await held.asked.wait()
        assert not await writer.flush(0.0)
        flushing = asyncio.create_task(writer.flush(10))
        await asyncio.sleep(0)
        held.go.set()
        assert await flushing
    running.cancel()
    await asyncio.wait([running])
    state = await devices.get(pool, truck)
    assert state is not None
    assert state.acked == 1


async def test_what_could_not_be_written_is_written_later_together_with_what_came_meanwhile(
    fleet: Fleet, pool: Pool
) -> None:
    class Failing(HeldPool):
        async def fetch(self, statement: str, *arguments: object) -> list[object]:
            if "disconnected_at" in statement and not self.asked.is_set():
                self.asked.set()
                raise StoreUnavailable("away")
            return await self._pool.fetch(statement, *arguments)

    truck = await fleet.new_device()
    await connected(pool, truck, 3)
    writer = writer_on(Failing(pool, ""))
    writer.departed(truck, 1, excused=True)
    assert not await writer.flush(10)
    writer.departed(truck, 3, excused=True)
    assert await writer.flush(10)
    assert await flaps(pool, truck) == 1
