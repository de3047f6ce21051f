"""The reader against a real server that is killed, stopped and made to break subscriptions."""

import asyncio
import socket

import pytest
import redis.asyncio as redis

from shared.bus.message import CANARY, EVENT, REVOCATION, Message
from shared.bus.names import slot_channel
from shared.hash_slots import slot_of
from shared.telemetry.metrics import BUS_MALFORMED
from tests.conftest import ServerFactory
from tests.shared.bus.conftest import Ear, listening, publishing, until

DEVICE = "truck-7"
SLOT = slot_of(DEVICE)


def event(seq: int, body: bytes = b"{}") -> Message:
    return Message(EVENT, DEVICE, 1, seq, body)


async def test_a_message_published_after_the_confirmation_arrives(redis_url: str) -> None:
    async with listening(redis_url) as ear, publishing(redis_url) as publisher:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        publisher.offer(event(1, b'{"a":1}'))
        await until(lambda: bool(ear.messages), "the message arrives")
        assert ear.messages == [(EVENT, DEVICE, 1, 1, b'{"a":1}')]
        assert ear.gaps == []


async def test_one_publisher_keeps_its_order_over_many_pipelines(redis_url: str) -> None:
    async with listening(redis_url) as ear, publishing(redis_url) as publisher:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        for seq in range(1, 5001):
            publisher.offer(event(seq))
        await until(lambda: len(ear.messages) == 5000, "all arrive")
        assert ear.seqs == list(range(1, 5001))


async def test_all_slots_are_confirmed_over_one_connection(redis_url: str) -> None:
    async with listening(redis_url) as ear:
        for slot in range(1024):
            ear.reader.acquire(slot)
        confirmed = await asyncio.gather(*(ear.reader.wait_confirmed(slot, 5) for slot in range(1024)))
        assert all(confirmed)


async def test_a_slot_stays_for_a_while_after_its_last_device_left(redis_url: str) -> None:
    async with listening(redis_url, linger_s=0.6) as ear, redis.Redis.from_url(redis_url) as admin:
        for _ in range(2):
            ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        ear.reader.release(SLOT)
        ear.reader.release(SLOT)
        assert ear.reader.is_confirmed(SLOT)
        await until(lambda: not ear.reader.is_confirmed(SLOT), "the slot is let go")

        async def subscribers() -> int:
            _, count = await admin.execute_command("PUBSUB", "SHARDNUMSUB", slot_channel(SLOT))  # type: ignore[no-untyped-call]
            return int(count)

        async with asyncio.timeout(5):
            while await subscribers():
                await asyncio.sleep(0.01)
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        assert await subscribers() == 1


async def _two_live_slots(ear: Ear) -> None:
    for slot in (SLOT, SLOT - 1):
        ear.reader.acquire(slot)
        assert await ear.reader.wait_confirmed(slot, 5)
    assert ear.gaps == []


async def test_a_connection_cut_by_the_server_is_a_gap_of_all_slots(redis_url: str) -> None:
    async with (
        listening(redis_url) as ear,
        redis.Redis.from_url(redis_url) as admin,
        publishing(redis_url) as publisher,
    ):
        await _two_live_slots(ear)
        await admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
        await until(lambda: ear.gap_slots == {SLOT, SLOT - 1}, "the gap is told once the slots are live again")
        publisher.offer(event(9))
        await until(lambda: ear.seqs == [9], "messages arrive again")


async def test_a_subscription_ended_by_the_server_is_a_gap_of_that_slot_only(redis_url: str) -> None:
    async with listening(redis_url) as ear, publishing(redis_url) as publisher:
        await _two_live_slots(ear)
        # What a slot migration looks like from here: Redis says sunsubscribe, and nobody here asked for it.
        assert ear.node._connection is not None
        ear.node._connection.write(
            b"*2\r\n$12\r\nSUNSUBSCRIBE\r\n$%d\r\n%b\r\n" % (len(slot_channel(SLOT)), slot_channel(SLOT))
        )
        await until(lambda: ear.gaps == [frozenset({SLOT})], "the gap is told")
        publisher.offer(event(3))
        await until(lambda: ear.seqs == [3], "messages arrive again")


async def test_messages_that_the_server_threw_away_because_the_reader_was_slow_are_a_gap(
    valkey_server: ServerFactory,
) -> None:
    server = valkey_server(**{"client-output-buffer-limit": "pubsub 256kb 0 0"})
    async with listening(server.url) as ear, redis.Redis.from_url(server.url) as admin:
        await _two_live_slots(ear)
        assert ear.node._connection is not None
        transport = ear.node._connection._transport
        assert transport is not None
        transport.pause_reading()
        sent = 0
        while await _pubsub_clients(admin):
            sent += 1
            await admin.spublish(slot_channel(SLOT), event(sent, b"x" * 200_000).encode())
        transport.resume_reading()
        await until(lambda: ear.gap_slots == {SLOT, SLOT - 1}, "the gap is told")
        assert len(ear.messages) < sent, "something was lost, which is what the gap is about"


async def _pubsub_clients(admin: redis.Redis) -> bool:
    return any(client["name"] == "test-reader" for client in await admin.client_list())


async def test_kill_9_of_the_server_ends_in_a_gap_after_its_return(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with listening(server.url) as ear:
        await _two_live_slots(ear)
        server.kill()
        await until(lambda: not ear.reader.connected, "the loss is noticed")
        assert not ear.reader.is_confirmed(SLOT)
        server.launch()
        await until(lambda: ear.gap_slots == {SLOT, SLOT - 1}, "the gap is told", 8)


async def test_who_gives_up_waiting_is_told_of_a_gap_when_the_slot_is_live(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    server.kill()
    async with listening(server.url) as ear:
        ear.reader.acquire(SLOT)
        assert not await ear.reader.wait_confirmed(SLOT, 0.05)
        assert ear.gaps == []
        server.launch()
        await until(lambda: ear.gaps == [frozenset({SLOT})], "the gap is told", 8)


async def test_a_server_that_hangs_does_not_hang_a_waiter_and_is_left(valkey_server: ServerFactory) -> None:
    server = valkey_server()
    async with listening(server.url, deadline_s=0.3) as ear:
        await _two_live_slots(ear)
        server.pause()
        ear.reader.acquire(5)
        assert not await ear.reader.wait_confirmed(5, 0.1)
        await until(lambda: not ear.reader.connected, "the unanswered question ends the connection")
        server.resume()
        await until(lambda: ear.gap_slots == {5, SLOT, SLOT - 1}, "the gap is told")


async def test_a_refused_subscription_is_asked_for_again(redis_url: str) -> None:
    async with redis.Redis.from_url(redis_url) as admin:
        await admin.execute_command(  # type: ignore[no-untyped-call]
            "ACL", "SETUSER", "narrow", "on", ">pw-of-narrow", "resetchannels", "+@all", "~*"
        )
        try:
            narrow = _as_user(redis_url, "narrow", "pw-of-narrow")
            async with listening(narrow) as ear:
                ear.reader.acquire(SLOT)
                assert not await ear.reader.wait_confirmed(SLOT, 0.2)
                assert ear.reader.connected
                await admin.execute_command("ACL", "SETUSER", "narrow", "allchannels")  # type: ignore[no-untyped-call]
                await until(lambda: ear.gaps == [frozenset({SLOT})], "subscribed at the second try")
        finally:
            await admin.execute_command("ACL", "DELUSER", "narrow")  # type: ignore[no-untyped-call]


async def test_a_wrong_password_is_tried_again_and_never_hangs(redis_url: str) -> None:
    async with listening(_as_user(redis_url, "default", "not-the-password-at-all")) as ear:
        ear.reader.acquire(SLOT)
        assert not await ear.reader.wait_confirmed(SLOT, 0.2)
        assert not ear.reader.connected


async def test_bytes_that_are_no_message_are_counted_and_cost_nothing_else(redis_url: str) -> None:
    async with listening(redis_url) as ear, redis.Redis.from_url(redis_url) as admin:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        for payload in (b"", b"x", b"\xff" * 40, event(1).encode()[:12]):
            await admin.spublish(slot_channel(SLOT), payload)
        await admin.spublish(slot_channel(SLOT), event(2).encode())
        await until(lambda: ear.seqs == [2], "the good message arrives")
        assert ear.gaps == []


async def test_a_handler_that_fails_does_not_cost_the_connection(redis_url: str) -> None:
    async with listening(redis_url) as ear, publishing(redis_url) as publisher:
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)

        def fail_on_two(message: tuple[int, str, int, int, bytes]) -> None:
            if message[3] == 2:
                raise RuntimeError("a bug")
            ear.messages.append(message)

        ear.take = fail_on_two
        for seq in (1, 2, 3):
            publisher.offer(event(seq))
        await until(lambda: ear.seqs == [1, 3], "the others arrive")
        assert ear.gaps == []


async def test_an_event_goes_to_the_taker_of_its_device_and_all_else_where_messages_go(redis_url: str) -> None:
    taken: list[tuple[int, int, bytes]] = []
    calls: list[str] = []

    def take(epoch: int, seq: int, body: bytes) -> None:
        calls.append("event")
        taken.append((epoch, seq, body))
        if seq == 2:
            raise RuntimeError("a bug")

    def taker_of_another(epoch: int, seq: int, body: bytes) -> None:
        raise AssertionError((epoch, seq, body))

    takers = {DEVICE.encode(): take, DEVICE[:-1].encode(): taker_of_another}
    around = {"on_batch": lambda: calls.append("begin"), "on_batch_end": lambda: calls.append("end")}
    async with (
        listening(redis_url, takers=takers, **around) as ear,
        publishing(redis_url) as publisher,
        redis.Redis.from_url(redis_url) as admin,
    ):
        ear.reader.acquire(SLOT)
        assert await ear.reader.wait_confirmed(SLOT, 5)
        malformed = BUS_MALFORMED._value.get()
        cut_short = Message(EVENT, DEVICE, 1, 9, b"").encode()[:-1]
        for payload in (cut_short, cut_short[:5], b""):
            await admin.spublish(slot_channel(SLOT).decode(), payload)
        for seq in (1, 2, 3):
            publisher.offer(event(seq, b"%d" % seq))
        publisher.offer_to(slot_channel(SLOT), Message(EVENT, "truck-8", 1, 5, b"{}"))
        publisher.offer_to(slot_channel(SLOT), Message(REVOCATION, DEVICE, 0, 0, b""))
        await until(lambda: len(ear.messages) == 2, "all arrive")
        assert taken == [(1, 1, b"1"), (1, 2, b"2"), (1, 3, b"3")]
        assert ear.messages == [(EVENT, "truck-8", 1, 5, b"{}"), (REVOCATION, DEVICE, 0, 0, b"")]
        assert BUS_MALFORMED._value.get() == malformed + 3
        del takers[DEVICE.encode()]
        publisher.offer(event(4))
        await until(lambda: ear.seqs[2:] == [4], "without a taker it goes where messages go")
        await until(lambda: calls[-1] == "end", "the batch is over")
        assert calls[0] == "begin"
        assert calls.count("begin") == calls.count("end")
        assert ear.gaps == []


async def test_a_channel_of_its_own_goes_to_its_own_taker_until_released(redis_url: str) -> None:
    channel, taken = b"fw:{s0}:test-channel", []
    async with listening(redis_url, linger_s=0.1) as ear, publishing(redis_url) as publisher:
        ear.reader.acquire(SLOT)
        ear.reader.acquire_channel(channel, lambda *message: taken.append(message))
        assert await ear.reader.wait_confirmed(SLOT, 5)
        await until(lambda: ear.reader._is_confirmed(channel), "the channel is subscribed")
        publisher.offer_to(channel, Message(CANARY, "all", 0, 1, b"to all"))
        publisher.offer_to(slot_channel(SLOT), Message(CANARY, DEVICE, 0, 2, b"to the slot"))
        await until(lambda: bool(taken) and bool(ear.messages), "both arrive")
        assert taken == [(CANARY, "all", 0, 1, b"to all")]
        assert ear.messages == [(CANARY, DEVICE, 0, 2, b"to the slot")]
        ear.reader.release_channel(channel)
        await until(lambda: "1 wanted" in repr(ear.reader), "the channel is let go of")
        assert ear.gaps == []


async def test_a_taker_that_fails_does_not_cost_the_connection(redis_url: str) -> None:
    channel, taken = b"fw:{s0}:test-failing", []

    def take(kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        taken.append(seq)
        if seq == 1:
            raise RuntimeError("a bug")

    async with listening(redis_url) as ear, publishing(redis_url) as publisher:
        ear.reader.acquire_channel(channel, take)
        await until(lambda: ear.reader._is_confirmed(channel), "the channel is subscribed")
        for seq in (1, 2):
            publisher.offer_to(channel, Message(CANARY, "all", 0, seq, b""))
        await until(lambda: taken == [1, 2], "both arrive")
        assert ear.gaps == []


@pytest.mark.parametrize("rubbish", [b"!?\r\n", b"$9000000000\r\n"])
async def test_a_server_that_does_not_speak_redis_is_left(rubbish: bytes) -> None:
    left = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read(100)
            writer.write(b"%0\r\n")
            await reader.read(100)
            writer.write(rubbish)
            await reader.read()
        except ConnectionError:
            pass
        finally:
            left.set()
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        async with listening(f"redis://127.0.0.1:{port}/0") as ear:
            ear.reader.acquire(SLOT)
            async with asyncio.timeout(5):
                await left.wait()
            assert not await ear.reader.wait_confirmed(SLOT, 0.05)


async def test_a_port_that_accepts_and_says_nothing_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        async with listening(url, deadline_s=0.1) as ear:
            assert not await ear.reader.wait_confirmed(SLOT, 0.4)
            assert not ear.reader.connected


def _as_user(url: str, user: str, password: str) -> str:
    _, _, rest = url.rpartition("@") if "@" in url else url.partition("//")
    return f"redis://{user}:{password}@{rest}"
