"""Hints by a real RabbitMQ while it fails, and over TLS. What all carriers promise is in test_hint_servers.py."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from uuid import uuid4

import aio_pika
import pytest

from loadtests.rabbit_server import RabbitServer
from shared.bus.hints import Offer
from shared.rabbit.address import RabbitAddress
from shared.rabbit.hint_reader import RabbitHintReader
from shared.rabbit.hints import RabbitHints
from shared.rabbit.link import RABBIT_ERRORS, Link, open_link, queue_name
from shared.telemetry.metrics import BUS_DROPPED
from tests.shared.bus.conftest import until

LONG_S = 60.0
# Starting the server takes seconds, on a busy machine many.
pytestmark = pytest.mark.timeout(300)


@asynccontextmanager
async def both(url: str, queue: str) -> AsyncIterator[tuple[RabbitHints, RabbitHintReader]]:
    hints, reader = RabbitHints(url), RabbitHintReader(url, queue, consumer="worker-1")
    task = asyncio.create_task(hints.run())
    try:
        yield hints, reader
    finally:
        await reader.close()
        await hints.close()
        async with asyncio.timeout(5):
            await task


async def arrives(hints: RabbitHints, reader: RabbitHintReader, queue: str) -> None:
    """Hints are offered until one is heard."""
    job = uuid4()
    async with asyncio.timeout(LONG_S):
        while True:
            hints.offer(queue, job)
            if job in await reader.wait(0.3):
                return


async def opened(url: str, deadline_s: float = LONG_S) -> Link:
    return await open_link(RabbitAddress.from_url(url), name="test", deadline_s=deadline_s, rand=Random(1))


def at(url: str, port: int) -> str:
    return url.replace("127.0.0.1:", f"127.0.0.1:{port},127.0.0.1:", 1)


async def test_a_broker_that_was_killed_is_found_again_by_both_sides(
    rabbit: RabbitServer, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    queue = f"q-{uuid4()}"
    async with both(rabbit.url, queue) as (hints, reader):
        began = time.monotonic()
        # A broker that dies within a second of making a queue may not know all of it again.
        while time.monotonic() - began < 2:
            await arrives(hints, reader, queue)
        rabbit.kill()
        await until(lambda: not hints.connected, "the loss is noticed", LONG_S)
        began = time.monotonic()
        assert hints.offer(queue, uuid4()) is Offer.OFFERED
        while await reader.wait(0.5):
            pass
        assert time.monotonic() - began < 5
        rabbit.launch()
        await rabbit.wait_ready()
        await arrives(hints, reader, queue)
    said = "".join(capfd.readouterr()) + caplog.text
    assert "hints cannot be sent" in said
    assert "p@ss" not in said
    assert "p%40ss" not in said


async def test_beside_a_hanging_broker_waits_end_in_time_and_offers_stay_bounded(rabbit: RabbitServer) -> None:
    queue = f"q-{uuid4()}"
    async with both(rabbit.url, queue) as (hints, reader):
        await arrives(hints, reader, queue)
        rabbit.pause()
        for _ in range(300):
            hints.offer(queue, uuid4())
        began = time.monotonic()
        await reader.wait(0.3)
        await reader.rest()
        assert time.monotonic() - began < 5
        await until(lambda: not hints.connected, "no confirmation comes", LONG_S)
        assert hints.held < 400
        rabbit.resume()
        await arrives(hints, reader, queue)


async def test_a_queue_that_is_removed_under_its_worker_is_made_again(rabbit: RabbitServer) -> None:
    queue = f"q-{uuid4()}"
    async with both(rabbit.url, queue) as (hints, reader):
        await arrives(hints, reader, queue)
        async with await opened(rabbit.url) as link:
            await link.channel.queue_delete(queue_name(queue))
            await arrives(hints, reader, queue)
            again = await link.channel.get_queue(queue_name(queue))
            assert again.declaration_result.consumer_count == 1


async def test_a_queue_that_somebody_made_otherwise_is_left_alone(rabbit: RabbitServer) -> None:
    queue = f"q-{uuid4()}"
    async with await opened(rabbit.url) as link:
        await link.channel.declare_queue(queue_name(queue), auto_delete=True)
        async with both(rabbit.url, queue) as (hints, reader):
            assert hints.offer(queue, uuid4()) is Offer.OFFERED
            assert await reader.wait(0.5) == []
            assert "not reachable" in repr(reader)
            other = f"q-{uuid4()}"  # and it stands in nobody's way
            ear = RabbitHintReader(rabbit.url, other, consumer="worker-1")
            await arrives(hints, ear, other)
            refused = BUS_DROPPED.labels("job_hints", "refused")._value
            before = refused.get()
            hints.offer(queue, uuid4())
            await until(lambda: refused.get() > before, "hints of that queue are dropped", LONG_S)
            await arrives(hints, ear, other)
            assert hints.connected
            await ear.close()


async def test_a_hint_that_names_no_job_is_passed_over(rabbit: RabbitServer) -> None:
    queue = f"q-{uuid4()}"
    async with both(rabbit.url, queue) as (hints, reader):
        await arrives(hints, reader, queue)
        async with await opened(rabbit.url) as link:
            for body in (b"../../etc", b"\xff\xfe", b""):
                await link.channel.default_exchange.publish(aio_pika.Message(body), queue_name(queue))
        await arrives(hints, reader, queue)
        await reader.wait(0.1)


async def test_hints_go_over_tls_to_a_broker_that_proves_who_it_is(rabbit: RabbitServer) -> None:
    queue = f"q-{uuid4()}"
    async with both(f"{rabbit.tls_url}?cafile={rabbit.certificate}", queue) as (hints, reader):
        await arrives(hints, reader, queue)
    async with both(f"{rabbit.tls_url}?no_verify_ssl=1", queue) as (hints, reader):
        await arrives(hints, reader, queue)


async def test_a_broker_that_cannot_prove_who_it_is_gets_no_password(rabbit: RabbitServer) -> None:
    with pytest.raises(RABBIT_ERRORS, match="CERTIFICATE_VERIFY_FAILED"):
        await opened(rabbit.tls_url, 10)


async def test_a_wrong_password_is_said_and_not_shown(rabbit: RabbitServer) -> None:
    url = rabbit.url.replace("p%40ss%3Aw%2Frd", "hidden")
    with pytest.raises(RABBIT_ERRORS) as error:
        await opened(url, 10)
    assert "hidden" not in str(error.value)


async def test_an_address_that_does_not_answer_does_not_hide_one_that_does(rabbit: RabbitServer) -> None:
    address = RabbitAddress.from_url(at(rabbit.url, 1))
    assert len(address.hosts) == 2
    for seed in range(4):
        async with await open_link(address, name="test", deadline_s=LONG_S, rand=Random(seed)) as link:
            assert not link.is_lost


def test_an_address_reads_all_parts_and_shows_no_password(tmp_path: Path) -> None:
    address = RabbitAddress.from_url(f"amqps://u%3A:p%40ss@a.example,[::1]:7/%2Fshop?cafile={tmp_path}")
    assert address.hosts == (("a.example", 5671), ("::1", 7))
    assert (address.user, address.password, address.vhost) == ("u:", "p@ss", "/shop")
    assert (address.tls, address.cafile, address.verify) == (True, str(tmp_path), True)
    assert "p@ss" not in repr(address) + str(address)
    assert RabbitAddress.from_url("amqp://a") == RabbitAddress((("a", 5672),))
