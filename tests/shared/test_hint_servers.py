"""What every carrier of hints promises, asked of the real servers: Redis Streams and RabbitMQ."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from uuid import UUID, uuid4

import pytest

from loadtests.ports import free_port
from shared.bus.hints import HintOffers, HintWaits, Offer
from shared.bus.job_hints import JobHints
from shared.hint_servers import QueueSettings, open_offers, open_waits
from shared.settings import SettingsError, load
from shared.telemetry.metrics import BUS_DROPPED
from tests.shared.bus.conftest import until

LONG_S = 40.0
# RabbitMQ takes seconds to start, on a busy machine many.
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(params=["redis", "rabbit"])
def carrier(request: pytest.FixtureRequest) -> str:
    """The address of a server."""
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return str(request.getfixturevalue("rabbit").url)


@pytest.fixture
def queue() -> str:
    """A queue of this test's own."""
    return f"q-{uuid4()}"


@asynccontextmanager
async def offering(url: str) -> AsyncIterator[HintOffers]:
    offers = open_offers(url, name="test-hints")
    task = asyncio.create_task(offers.run())
    try:
        yield offers
    finally:
        await offers.close()
        async with asyncio.timeout(5):
            await task


@asynccontextmanager
async def waiting(url: str, queue: str, consumer: str = "worker-1") -> AsyncIterator[HintWaits]:
    waits = open_waits(url, queue, consumer=consumer)
    try:
        assert await waits.wait(0.05) == []  # the queue is there from now on
        yield waits
    finally:
        await waits.close()


async def heard(waits: HintWaits, count: int, deadline_s: float = LONG_S) -> list[UUID]:
    found: list[UUID] = []
    async with asyncio.timeout(deadline_s):
        while len(found) < count:
            found += await waits.wait(0.5)
    return found


async def test_each_hint_ends_the_wait_of_one_worker(carrier: str, queue: str) -> None:
    async with offering(carrier) as offers, waiting(carrier, queue, "a") as a, waiting(carrier, queue, "b") as b:
        await until(lambda: offers.connected, "connected", LONG_S)
        waits = [asyncio.create_task(worker.wait(LONG_S)) for worker in (a, b)]
        first, second = uuid4(), uuid4()
        assert offers.offer(queue, first) is Offer.OFFERED
        done, pending = await asyncio.wait(waits, timeout=LONG_S, return_when=asyncio.FIRST_COMPLETED)
        assert [task.result() for task in done] == [[first]]
        offers.offer(queue, second)
        assert await pending.pop() == [second]


async def test_a_wait_without_a_hint_lasts_as_long_as_asked(carrier: str, queue: str) -> None:
    async with waiting(carrier, queue) as waits:
        began = time.monotonic()
        assert await waits.wait(0.3) == []
        assert 0.28 <= time.monotonic() - began <= 3


@pytest.mark.parametrize("scheme", ["redis://127.0.0.1:{}/0", "amqp://u:secret@127.0.0.1:{}"])
async def test_without_a_server_a_wait_is_a_sleep_and_offers_are_dropped_and_counted(scheme: str, queue: str) -> None:
    url = scheme.format(free_port())
    expired = BUS_DROPPED.labels("job_hints", "expired")._value
    before = expired.get()
    async with offering(url) as offers:
        waits = open_waits(url, queue, consumer="worker-1")
        began = time.monotonic()
        assert await waits.wait(0.3) == []
        assert 0.28 <= time.monotonic() - began <= 3
        assert offers.offer(queue, uuid4()) is Offer.OFFERED
        assert not offers.connected

        def full() -> bool:  # each one too many is a look at what has expired
            return offers.offer(queue, uuid4()) is Offer.FULL

        while not full():
            pass
        await until(lambda: not full() and expired.get() > before, "what was too old is gone", LONG_S)
        await waits.rest()
        await waits.close()
        assert "secret" not in repr(offers) + repr(waits)


async def test_a_hint_whose_taker_died_before_it_used_it_goes_to_another(carrier: str, queue: str) -> None:
    async with offering(carrier) as offers, waiting(carrier, queue, "b") as b:
        job = uuid4()
        async with waiting(carrier, queue, "a") as a:
            while True:
                offers.offer(queue, job)
                if await a.wait(0.2):
                    break
        assert job in await heard(b, 1)


async def test_a_hint_that_was_used_comes_to_nobody_else(carrier: str, queue: str) -> None:
    async with offering(carrier) as offers:
        async with waiting(carrier, queue, "a") as a:
            await until(lambda: offers.connected, "connected", LONG_S)
            job = uuid4()
            offers.offer(queue, job)
            assert await heard(a, 1) == [job]
            await a.rest()
        async with waiting(carrier, queue, "b") as b:
            assert await b.wait(2.5) == []


async def test_a_worker_that_rests_leaves_the_others_what_it_did_not_take(carrier: str, queue: str) -> None:
    async with offering(carrier) as offers, waiting(carrier, queue, "a") as a:
        await until(lambda: offers.connected, "connected", LONG_S)
        jobs = [uuid4() for _ in range(10)]
        for job in jobs:
            offers.offer(queue, job)
        await until(lambda: offers.held == 0, "sent", LONG_S)
        taken = list(await a.wait(LONG_S, count=1))
        await a.rest()
        b = open_waits(carrier, queue, consumer="b")
        others = await heard(b, 9)
        await b.rest()
        await b.close()
        assert sorted(taken + others) == sorted(jobs)
        later = uuid4()  # and it hears again once it asks
        offers.offer(queue, later)
        assert later in await heard(a, 1)


async def test_many_hints_arrive_in_bounded_portions(carrier: str, queue: str) -> None:
    async with offering(carrier) as offers, waiting(carrier, queue) as waits:
        await until(lambda: offers.connected, "connected", LONG_S)
        jobs = {uuid4() for _ in range(120)}
        for job in jobs:
            offers.offer(queue, job)
        found: set[UUID] = set()
        async with asyncio.timeout(LONG_S):
            while found != jobs:
                portion = await waits.wait(0.5, count=50)
                assert len(portion) <= 50
                found.update(portion)


async def test_what_was_offered_is_flushed_at_the_end(carrier: str, queue: str) -> None:
    async with waiting(carrier, queue) as waits:
        job = uuid4()
        async with offering(carrier) as offers:
            await until(lambda: offers.connected, "connected", LONG_S)
            offers.offer(queue, job)
        assert offers.offer(queue, job) is Offer.CLOSED
        assert await heard(waits, 1) == [job]


def load_queue(**values: str) -> QueueSettings:
    return load(QueueSettings, {"FLEETWIRE_REDIS_URL": "redis://127.0.0.1:1/0"} | values)


def test_redis_carries_hints_unless_something_else_is_named() -> None:
    assert load_queue().hints_url == "redis://127.0.0.1:1/0"
    assert isinstance(open_offers(load_queue().hints_url, name="x"), JobHints)
    elsewhere = load_queue(FLEETWIRE_QUEUE_URL="rediss://u:p@a:1,b:2/0")
    assert elsewhere.hints_url == "rediss://u:p@a:1,b:2/0"
    rabbit = load_queue(FLEETWIRE_QUEUE_URL="amqp://u:hidden@a:1,b/shop")
    assert "hidden" not in repr(rabbit) + repr(open_waits(rabbit.hints_url, "q", consumer="w"))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://u:hidden@a", "must begin with redis://"),
        ("amqp://u:hidden@/x", "names no host"),
        ("amqp://u:hidden@a:99999", "a port is a number"),
        ("amqp://u:hidden@a/b/c", "write it as %2F"),
        ("amqp://u:hidden@a?cafile=/x", "only amqps"),
        ("amqps://u:hidden@a?nonsense=/x", "nobody knows: nonsense"),
        ("amqps://u:hidden@a?no_verify_ssl=maybe", "not 0 or 1"),
        ("amqp://u:hidden@" + ",".join("abcdefghijklmnopq"), "more than 16"),
    ],
)
def test_a_wrong_address_is_refused_with_its_reason_and_without_its_password(url: str, said: str) -> None:
    check: Callable[..., object] = load_queue
    with pytest.raises(SettingsError, match=said) as error:
        check(FLEETWIRE_QUEUE_URL=url)
    assert "FLEETWIRE_QUEUE_URL" in str(error.value)
    assert "hidden" not in str(error.value)
