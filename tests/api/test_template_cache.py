"""The three places of a template: what is trusted for how long, and what happens when one of them is lost."""

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import pytest

from api.template_cache import TRUST_S, TemplateCache
from loadtests.ports import free_port
from shared.bus.names import template_channel, template_entry
from shared.bus.publisher import Publisher
from shared.bus.reader import SlotReader
from shared.bus.redis_client import LazyRedis
from shared.bus.versioned_cache import KeptAnswer, VersionedCache
from shared.store import templates
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.store.templates import TemplateRow
from tests.api.conftest import StartApi
from tests.api.templates import PATH, change_template, make_template
from tests.conftest import ServerFactory

TEMPLATE = UUID("01900000-0000-7000-8000-000000000001")
NOWHERE = f"redis://127.0.0.1:{free_port()}/0"


class Asked:
    """The pool, counting what is asked of it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.statements: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        self.statements.append(statement)
        rows = await self.pool.fetch(statement, *arguments)
        await self.gate.wait()
        return rows


class Instance:
    """A cache as an API process has it, with a clock that stands until it is set."""

    def __init__(self, pool: Pool, redis_url: str, **options: Any) -> None:
        self.now = 1000.0
        self.asked = Asked(pool)
        self.redis = VersionedCache(LazyRedis(redis_url, deadline_s=5.0), ttl_s=3600, deadline_s=5.0)
        self.publisher = Publisher(redis_url, name="test", rand=Random(1))
        self.cache = TemplateCache(
            self.asked,  # type: ignore[arg-type]
            self.redis,
            self.publisher,
            **{"max_bytes": 100_000_000, "keep_s": 300.0, "compare_s": 0.5} | options,
            rand=Random(1),
            clock=lambda: self.now,
        )
        self.pool = pool

    async def version(self, template_id: UUID = TEMPLATE, **options: Any) -> int | None:
        entry = await self.cache.get(template_id, **options)
        if entry is None:
            return None
        assert orjson.loads(entry.body)["version"] == entry.edition.version
        return entry.edition.version

    async def change(self, *, says_so: bool = True, template_id: UUID = TEMPLATE) -> TemplateRow:
        row = await self.pool.run(lambda c: templates.change(c, template_id, None, "n", "{}", by="operator:olga"))
        assert row is not None
        if says_so:
            self.cache.replaced(row, began_at=self.now)
        return row

    async def written(self) -> None:
        """Redis has what it was given."""
        async with asyncio.timeout(10):
            while self.redis._writes:
                await asyncio.sleep(0)


@pytest.fixture
async def instance(pool: Pool, redis_url: str) -> AsyncIterator[Callable[..., Instance]]:
    made: list[Instance] = []

    def make(url: str = redis_url, **options: Any) -> Instance:
        made.append(Instance(pool, url, **options))
        return made[-1]

    await pool.run(lambda c: templates.create(c, TEMPLATE, "Daily", '{"a":1}', by="operator:olga"))
    yield make
    for one in made:
        await one.cache.close()


MakeInstance = Callable[..., Instance]


async def test_what_is_kept_is_trusted_for_less_than_a_second_and_then_asked_for_without_its_body(
    instance: MakeInstance,
) -> None:
    one = instance(NOWHERE)
    assert await one.version() == 1
    one.now += TRUST_S - 0.01
    assert await one.version() == 1
    assert len(one.asked.statements) == 1
    await one.change(says_so=False)
    assert await one.version() == 1  # nobody said so, and it is not a second yet
    one.now += 0.02
    assert await one.version() == 2
    first = await one.cache.get(TEMPLATE)
    one.now += 1.0
    assert await one.cache.get(TEMPLATE) is first
    assert len(one.asked.statements) == 3


async def test_one_read_compares_all_that_is_kept_and_drops_what_changed(instance: MakeInstance, pool: Pool) -> None:
    one = instance(NOWHERE)
    others = [UUID(int=TEMPLATE.int + n) for n in range(1, 4)]
    for other in others:
        await pool.run(lambda c, other=other: templates.create(c, other, "n", "{}", by="operator:olga"))  # type: ignore[misc]
    for template_id in (TEMPLATE, *others):
        assert await one.version(template_id) == 1
    await one.change(says_so=False)
    before = len(one.asked.statements)
    one.now += 0.5
    await one.cache.compare()
    assert len(one.asked.statements) == before + 1
    one.now += 0.5
    assert [await one.version(other) for other in others] == [1, 1, 1]
    assert len(one.asked.statements) == before + 1
    assert await one.version() == 2


async def test_a_number_that_is_given_out_again_is_another_version(
    instance: MakeInstance, sql: asyncpg.Connection
) -> None:
    one = instance()
    lost = await one.change()
    await one.written()
    assert await one.version() == 2
    # A standby without that commit has been promoted, and others have gone on.
    await sql.execute("UPDATE templates SET name = 'Daily', version = 1, updated_at = $1", lost.created_at)
    await sql.execute("DELETE FROM template_versions WHERE version = 2")
    one.now += 0.5
    await one.cache.compare()
    assert await one.version() == 1
    again = await instance(NOWHERE).change()
    assert (again.version, again.edition == lost.edition) == (2, False)
    one.now += 1.0
    entry = await one.cache.get(TEMPLATE)
    assert entry is not None
    assert entry.edition == again.edition


async def test_nothing_is_given_out_that_nobody_vouches_for(instance: MakeInstance, database_url: str) -> None:
    one = instance(NOWHERE)
    assert await one.version() == 1
    await one.pool.close()
    assert await one.version() == 1
    with pytest.raises(StoreError):
        await one.cache.compare()
    one.now += 1.0
    with pytest.raises(StoreError):
        await one.version()


async def test_redis_saves_postgres_the_body_and_is_never_believed(instance: MakeInstance) -> None:
    first, second = instance(), instance()
    assert await first.version() == 1
    await first.written()
    kept = await first.redis.get(template_entry(TEMPLATE))
    assert kept is not None
    entry = await second.cache.get(TEMPLATE)
    assert entry is not None
    assert entry.body == kept.body
    assert len(second.asked.statements) == 1
    # Its entry is old now, and nobody has said so.
    await first.change(says_so=False)
    third = instance()
    assert await third.version() == 2
    await third.written()
    kept = await first.redis.get(template_entry(TEMPLATE))
    assert kept is not None
    assert kept.version == 2


@pytest.mark.parametrize("version", [0, 2**31, 2**63])
async def test_nonsense_in_redis_harms_nobody(instance: MakeInstance, version: int) -> None:
    one = instance()
    one.redis.put(template_entry(TEMPLATE), KeptAnswer(version, 2**62, b"nonsense"))
    await one.written()
    assert await one.version() == 1


async def test_a_signal_drops_what_another_instance_has_changed(instance: MakeInstance, redis_url: str) -> None:
    here, there = instance(), instance()
    ears = SlotReader(redis_url, on_message=there.cache.on_signal, on_gap=lambda slots: None, rand=Random(1))
    ears.acquire_channel(template_channel(), there.cache.on_signal)
    tasks = [asyncio.create_task(ears.run()), asyncio.create_task(here.publisher.run())]
    try:
        async with asyncio.timeout(20):
            while not ears.all_confirmed or not here.publisher.connected:
                await asyncio.sleep(0.01)
            assert await there.version() == 1
            await here.change()
            # The clock stands: by trust alone it would be the first version for ever.
            while await there.version() != 2:
                await asyncio.sleep(0.01)
        assert await here.version() == 2
        assert here.asked.statements == []
    finally:
        await ears.close()
        await here.publisher.close()
        await asyncio.gather(*tasks)


async def test_many_who_ask_at_once_wait_for_one_read(instance: MakeInstance) -> None:
    one = instance(NOWHERE)
    assert await asyncio.gather(*(one.version() for _ in range(50))) == [1] * 50
    assert len(one.asked.statements) == 1
    unknown = UUID(int=7)
    assert await asyncio.gather(*(one.version(unknown) for _ in range(50))) == [None] * 50
    assert len(one.asked.statements) == 2


async def test_a_read_that_others_began_is_not_taken_when_it_is_too_old(instance: MakeInstance) -> None:
    one = instance(NOWHERE)
    one.asked.gate.clear()
    early = asyncio.create_task(one.version())
    while not one.asked.statements:
        await asyncio.sleep(0)
    await one.change(says_so=False)
    late_now = asyncio.create_task(one.version(at_once=True))
    one.now += 5.0
    late = asyncio.create_task(one.version())
    await asyncio.sleep(0)
    one.asked.gate.set()
    # Who asked first may get what was true then.
    assert await early == 1
    assert await late_now == 2
    assert await late == 2


async def test_a_change_of_our_own_outlasts_a_read_that_began_before_it(instance: MakeInstance) -> None:
    one = instance(NOWHERE)
    one.asked.gate.clear()
    read = asyncio.create_task(one.version())
    async with asyncio.timeout(10):
        while not one.asked.statements:
            await asyncio.sleep(0)
        await one.change()
        one.asked.gate.set()
        assert await read in (1, 2)
    assert await one.version() == 2
    assert len(one.asked.statements) == 1


async def test_it_keeps_no_more_than_it_may_and_nothing_for_too_long(instance: MakeInstance) -> None:
    none = instance(NOWHERE, max_bytes=0)
    assert [await none.version(), await none.version()] == [1, 1]
    assert len(none.asked.statements) == 2
    short = instance(NOWHERE, keep_s=0.5)
    assert await short.version() == 1
    short.now += 0.6
    assert await short.version() == 1
    assert len(short.asked.statements) == 2
    short.now += 0.6
    await short.cache.compare()
    assert "0 of 10000" in repr(short.cache)


async def newest_within_a_second(start_api: StartApi, redis_url: str, break_redis: Callable[[], None]) -> None:
    """Two instances; after a change at one, whatever the other is asked a second later it answers with the new one."""
    writer = await start_api(FLEETWIRE_REDIS_URL=redis_url)
    reader = await start_api(FLEETWIRE_REDIS_URL=redis_url)
    made = await make_template(writer.operator)
    path, truck = f"{PATH}/{made['template_id']}", reader.device("truck-7")
    loop = asyncio.get_running_loop()
    for version in (1, 2):
        assert (await truck.get(path)).json()["version"] == version
        if version == 2:
            break_redis()
        await change_template(writer.operator, made["template_id"], version)
        changed_at = loop.time()
        assert (await writer.operator.get(path)).json()["version"] == version + 1
        async with asyncio.timeout(30):
            while True:
                asked_at = loop.time()
                answer = await truck.get(path, headers={"If-None-Match": f'"{version}"'})
                if answer.status_code == 200:
                    assert answer.json()["version"] == version + 1
                    break
                assert asked_at - changed_at < 1.0, "an old one after a second"


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_with_redis_hanging_or_gone_another_instance_has_a_change_within_a_second(
    start_api: StartApi, valkey_server: ServerFactory, how: str
) -> None:
    server = valkey_server()
    await newest_within_a_second(start_api, server.url, getattr(server, how))
    if how == "pause":
        server.resume()  # so that the instances leave sooner
