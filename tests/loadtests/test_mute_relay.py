"""A relay silences the subscribing connections of one name, and no other."""

import asyncio
from urllib.parse import urlsplit, urlunsplit

from loadtests.mute_relay import running_relays
from loadtests.ports import free_port
from shared.bus.message import EVENT, Message
from shared.hash_slots import slot_of
from tests.shared.bus.conftest import listening, publishing, until

DEVICE = "truck-relay"


async def test_only_subscribers_of_that_name_fall_silent_and_come_back_by_a_new_connection(redis_url: str) -> None:
    parts, port = urlsplit(redis_url), free_port()
    assert parts.port is not None
    relayed = urlunsplit(parts._replace(netloc=f":{parts.password}@127.0.0.1:{port}"))
    with running_relays({port: parts.port}) as relays:
        async with listening(relayed) as ear, publishing(relayed) as publisher:
            ear.reader.acquire(slot_of(DEVICE))
            assert await ear.reader.wait_confirmed(slot_of(DEVICE), 5)
            publisher.offer(Message(EVENT, DEVICE, 1, 1, b"{}"))
            await until(lambda: ear.seqs == [1], "it passes")
            assert await asyncio.to_thread(relays.mute, parts.port, "somebody-else") == 0
            assert await asyncio.to_thread(relays.mute, parts.port, "test-reader") == 1
            publisher.offer(Message(EVENT, DEVICE, 1, 2, b"{}"))
            await until(lambda: publisher.held == 0, "the publisher is answered")
            ear.node.reconnect("deaf")
            await until(lambda: bool(ear.gaps), "a new connection works")
            publisher.offer(Message(EVENT, DEVICE, 1, 3, b"{}"))
            await until(lambda: ear.seqs == [1, 3], "it hears again")
