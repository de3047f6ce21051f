"""The publisher never makes its caller wait: not for a Redis that is away, hangs, is full or refuses."""

import asyncio
import time
from uuid import uuid4

import hiredis
import pytest
import redis.asyncio as redis
from prometheus_client import CollectorRegistry

from loadtests.ports import free_port
from shared.bus.job_hints import JobHints
from shared.bus.message import EVENT, Message, decode
from shared.bus.publisher import Offer, Publisher
from shared.hash_slots import slot_of
from shared.telemetry.metrics import REGISTRY
from tests.conftest import ServerFactory
from tests.shared.bus.conftest import listening, publishing, until

DEVICE = "truck-7"
SLOT = slot_of(DEVICE)


def event(seq: int, body: bytes = b"{}") -> Message:
    return Message(EVENT, DEVICE, 1, seq, body)


def dropped(reason: str, role: str = "publisher", registry: CollectorRegistry = REGISTRY) -> float:
    return registry.get_sample_value("fleetwire_bus_dropped_total", {"role": role, "reason": reason}) or 0.0


async def test_offers_to_a_redis_that_is_not_there_are_taken_up_to_the_bound_and_then_dropped_and_counted() -> None:
    before = dropped("full")
    async with publishing(f"redis://127.0.0.1:{free_port()}/0", flush_s=0.05) as publisher:
        began = time.perf_counter()
        verdicts = [publisher.offer(event(seq)) for seq in range(10_500)]
        assert time.perf_counter() - began < 1.0
        assert verdicts.count(Offer.OFFERED) == 10_000
        assert verdicts[10_000:] == [Offer.FULL] * 500
        assert dropped("full") - before == 500


async def test_the_bytes_that_wait_are_bounded_too() -> None:
    async with publishing(f"redis://127.0.0.1:{free_port()}/0", flush_s=0.05, size_bytes=1_000_000) as publisher:
        verdicts = [publisher.offer(event(seq, b"x" * 100_000)) for seq in range(20)]
        assert verdicts.count(Offer.OFFERED) == 9


async def test_what_waited_too_long_makes_room_for_what_is_new() -> None:
    before = dropped("expired")
    async with publishing(f"redis://127.0.0.1:{free_port()}/0", flush_s=0.05, commands=10, max_age_s=0.05) as publisher:
        for seq in range(10):
            publisher.offer(event(seq))
        assert publisher.offer(event(10)) is Offer.FULL
        await asyncio.sleep(0.06)
        assert publisher.offer(event(11)) is Offer.OFFERED
        assert dropped("expired") - before == 10


async def test_messages_offered_while_redis_is_away_for_a_moment_arrive_in_order(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with listening(server.url) as ear, publishing(server.url, max_age_s=30.0) as publisher:
        await until(lambda: publisher.connected, "the publisher is connected")
        server.kill()
        await until(lambda: not publisher.connected, "the loss is noticed")
        server.launch()
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 8)
        for seq in range(1, 401):
            publisher.offer(event(seq))
        await until(lambda: len(ear.messages) >= 400, "all arrive", 8)
        assert ear.seqs == list(range(1, 401))


async def test_a_connection_that_is_cut_under_load_loses_nothing_and_keeps_the_order(redis_url: str) -> None:
    async with (
        listening(redis_url) as ear,
        publishing(redis_url, max_age_s=30.0) as publisher,
        redis.Redis.from_url(redis_url) as admin,
    ):
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        await until(lambda: publisher.connected, "the publisher is connected")
        for seq in range(1, 3001):
            publisher.offer(event(seq))
            if seq % 1000 == 500:
                me = [client for client in await admin.client_list() if client["name"] == "test-publisher"]
                await asyncio.gather(*(admin.execute_command("CLIENT", "KILL", "ID", client["id"]) for client in me))  # type: ignore[no-untyped-call]
        await until(lambda: bool(ear.seqs) and ear.seqs[-1] == 3000, "the last one arrives", 8)
        first_seen = list(dict.fromkeys(ear.seqs))
        assert first_seen == list(range(1, 3001))


async def test_what_was_not_answered_is_sent_again_in_its_order_on_the_next_connection() -> None:
    """A Redis that reads a pipeline and dies before it answers, three times; then one that lives."""
    connections = 0
    arrived: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        has_greeted, lives = False, connections > 3
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (command := parser.gets()) is not False:
                if not has_greeted:
                    has_greeted = True
                    writer.write(b"%0\r\n")
                elif lives:
                    arrived.append(decode(command[2])[3])
                    writer.write(b":0\r\n")
                else:
                    writer.close()
                    return
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with (
        server,
        publishing(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0", max_age_s=30.0) as publisher,
    ):
        for seq in range(1, 601):
            publisher.offer(event(seq))
        await until(lambda: publisher.held == 0, "all is answered")
        assert arrived == list(range(1, 601))
        assert connections == 4


async def test_a_redis_that_hangs_is_left_after_the_deadline_and_found_again(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with listening(server.url) as ear, publishing(server.url, deadline_s=0.2, max_age_s=30.0) as publisher:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        await until(lambda: publisher.connected, "the publisher is connected")
        server.pause()
        began = time.perf_counter()
        for seq in range(1, 501):
            assert publisher.offer(event(seq)) is Offer.OFFERED
        assert time.perf_counter() - began < 0.5
        await until(lambda: not publisher.connected, "the deadline ends the connection")
        server.resume()
        await until(lambda: len(set(ear.seqs)) == 500, "all arrive after its return", 8)


async def test_closing_flushes_what_waits(redis_url: str) -> None:
    async with listening(redis_url) as ear:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        async with publishing(redis_url) as publisher:
            await until(lambda: publisher.connected, "the publisher is connected")
            for seq in range(1, 2001):
                publisher.offer(event(seq))
        assert publisher.offer(event(9999)) is Offer.CLOSED
        await until(lambda: len(ear.messages) == 2000, "all arrive")


async def test_closing_beside_a_hanging_redis_takes_a_second_at_most(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with publishing(server.url, flush_s=0.3) as publisher:
        await until(lambda: publisher.connected, "the publisher is connected")
        server.pause()
        publisher.offer(event(1))
        began = time.perf_counter()
        await publisher.close()
        assert time.perf_counter() - began < 0.6


async def test_a_full_redis_refuses_hints_by_a_counter_and_still_passes_messages_on(
    valkey_server: ServerFactory,
) -> None:
    server = valkey_server(**{"maxmemory-policy": "noeviction"})
    async with redis.Redis.from_url(server.url) as admin:
        await admin.config_set("maxmemory", "1")
    before = dropped("refused", "job_hints")
    hints = JobHints(server.url)
    task = asyncio.create_task(hints.run())
    async with listening(server.url) as ear, publishing(server.url) as publisher:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        assert hints.offer("requests", uuid4()) is Offer.OFFERED
        await until(lambda: dropped("refused", "job_hints") > before, "the refusal is counted")
        assert hints.connected
        publisher.offer(event(1))
        await until(lambda: ear.seqs == [1], "the message arrives")
    await hints.close()
    await task


async def test_a_burst_goes_in_few_writes(redis_url: str) -> None:
    async with publishing(redis_url) as publisher, redis.Redis.from_url(redis_url) as admin:
        await until(lambda: publisher.connected, "the publisher is connected")
        only = publisher._queue._only
        assert only is not None
        connection = only._connection
        assert connection is not None
        writes: list[int] = []
        write = connection.write

        def counted(data: bytes) -> None:
            writes.append(len(data))
            write(data)

        connection.write = counted  # type: ignore[method-assign]
        for seq in range(256):
            publisher.offer(event(seq))
        await until(lambda: publisher.held == 0, "the burst is answered")
        assert len(writes) == 1
        await admin.ping()


@pytest.mark.parametrize("url", ["", "http://x", "127.0.0.1:6379", "redis://:secret@host:port/0"])
def test_a_url_that_is_none_is_refused_at_once_without_showing_it(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://|Redis URL") as refused:
        Publisher(url)
    assert "secret" not in str(refused.value)
