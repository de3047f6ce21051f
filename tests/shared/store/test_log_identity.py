"""The epoch is raised when the log is not the one that positions were given in, once, and for everybody it concerns."""

import asyncio
import shutil
import subprocess
from collections.abc import Callable

from infra.onebox.postgres import EmbeddedPostgres
from shared.store import cursors, devices, log
from shared.store.cursors import Ack
from shared.store.errors import StoreUnavailable
from shared.store.log_identity import raise_epoch
from shared.store.pool import Pool, open_pool
from tests.servers import ServerProcess
from tests.shared.store.samples import event, make_devices


async def epoch_of(pool: Pool, device_id: str) -> int:
    state = await devices.get(pool, device_id)
    assert state is not None
    return state.epoch


async def log_epoch(pool: Pool) -> int:
    return int((await pool.fetch("SELECT epoch FROM log_identity"))[0][0])


async def test_a_raise_reaches_every_device_and_new_ones_start_there(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    await log.append_committed(pool, [event("a", "1")])
    async with pool.acquire() as connection:
        assert await raise_epoch(connection, 1, "test") == 2
    await make_devices(pool, "c")
    assert [await epoch_of(pool, name) for name in "abc"] == [2, 2, 2]
    assert (await log.append_committed(pool, [event("a", "2")]))[0] == ("recorded", 2, 2), "numbers go on"


async def test_many_who_notice_at_once_raise_once(pool: Pool) -> None:
    await make_devices(pool, "a")

    async def notice() -> int:
        async with pool.acquire() as connection:
            return await raise_epoch(connection, 1, "test")

    assert await asyncio.gather(*(notice() for _ in range(6))) == [2] * 6


async def test_a_device_that_knows_more_than_the_log_raises_only_its_own_epoch(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    assert await log.raise_device_epoch(pool, "a", seen_epoch=1, claimed_epoch=4) == 5
    assert await log.raise_device_epoch(pool, "a", seen_epoch=1, claimed_epoch=4) is None, "somebody has done it"
    assert (await epoch_of(pool, "a"), await epoch_of(pool, "b")) == (5, 1)
    async with pool.acquire() as connection:
        assert await raise_epoch(connection, 1, "test") == 2
    assert (await epoch_of(pool, "a"), await epoch_of(pool, "b")) == (6, 2), "above what each had"


async def test_a_device_that_has_claimed_all_epochs_there_are_does_not_stop_a_raise(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    assert await log.raise_device_epoch(pool, "a", seen_epoch=1, claimed_epoch=2**31 - 1) == 2**31 - 1
    async with pool.acquire() as connection:
        assert await raise_epoch(connection, 1, "test") == 2
    assert (await epoch_of(pool, "a"), await epoch_of(pool, "b")) == (2**31 - 1, 2)


async def test_a_raise_and_acks_of_many_devices_do_not_deadlock(pool: Pool) -> None:
    names = [f"d{number:03}" for number in range(200)]
    await make_devices(pool, *reversed(names))
    await log.append_committed(pool, [event(name, "1") for name in names])
    raised = asyncio.Event()

    async def ack() -> None:
        while not raised.is_set():
            async with pool.transaction() as connection:
                await connection.execute(
                    "SELECT FROM cursors WHERE device_id = ANY($1) ORDER BY device_id FOR NO KEY UPDATE", names
                )

    acking = [asyncio.create_task(ack()) for _ in range(3)]
    for epoch in range(1, 15):
        async with pool.acquire() as connection:
            assert await raise_epoch(connection, epoch, "test") == epoch + 1
    raised.set()
    await asyncio.gather(*acking)


async def test_an_acked_position_survives_a_raise_and_old_acks_do_not_count(pool: Pool) -> None:
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", str(n)) for n in range(5)])
    await cursors.record_acks(pool, [Ack("a", 1, 3)])
    async with pool.acquire() as connection:
        await raise_epoch(connection, 1, "test")
    assert (await cursors.record_acks(pool, [Ack("a", 1, 5)]))[0].acked == 3
    assert (await cursors.record_acks(pool, [Ack("a", 2, 4)]))[0].acked == 4


async def test_another_timeline_raises_the_epoch_before_the_connection_is_used(pool: Pool, database_url: str) -> None:
    await make_devices(pool, "a")
    await pool.fetch("UPDATE log_identity SET timeline = timeline + 1")
    other = await open_pool(database_url, name="test")
    assert await log_epoch(other) == 2
    assert not other.witness.is_behind_pooler
    again = await open_pool(database_url, name="test")
    assert await log_epoch(again) == 2
    await other.close()
    await again.close()


async def test_a_server_put_back_from_a_copy_that_lost_the_last_events_raises_the_epoch(
    postgres_server: Callable[[], ServerProcess],
) -> None:
    server = postgres_server()
    pool = await open_pool(server.url, name="test", min_size=1, max_size=2)
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", "1")])
    server.stop()
    assert isinstance(server.server, EmbeddedPostgres)
    data = server.server.data
    copy = data.with_name("copy")
    subprocess.run(["cp", "-a", data, copy], check=True)
    server.start()
    assert [result.seq for result in await append_when_back(pool, "2")] == [2]
    server.kill()
    shutil.rmtree(data)
    copy.rename(data)
    server.start()
    # Without the check this would be recorded as 1:2 again, and a device that has seen the old 1:2 would miss it.
    assert [(result.epoch, result.seq) for result in await append_when_back(pool, "3")] == [(2, 2)]
    await pool.close()


async def append_when_back(pool: Pool, event_id: str) -> list[log.Appended]:
    async with asyncio.timeout(20):
        while True:
            try:
                return await log.append_committed(pool, [event("a", event_id)])
            except StoreUnavailable:
                await asyncio.sleep(0)


async def test_an_ordinary_restart_raises_nothing(postgres_server: Callable[[], ServerProcess]) -> None:
    server = postgres_server()
    pool = await open_pool(server.url, name="test", min_size=1, max_size=2)
    await make_devices(pool, "a")
    await log.append_committed(pool, [event("a", "1")])
    server.stop()
    server.start()
    assert [(result.epoch, result.seq) for result in await append_when_back(pool, "2")] == [(1, 2)]
    await pool.close()
