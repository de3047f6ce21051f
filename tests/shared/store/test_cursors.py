"""Cursors: acks only upward, tickets once, and the newest connection known by its term."""

import asyncio
import time

import pytest

from shared.store import cursors, devices, log
from shared.store.cursors import Ack, Departure, Greeting, Known
from shared.store.pool import Pool
from tests.shared.store.samples import event, make_devices


async def with_events(pool: Pool, device_id: str, count: int) -> None:
    await make_devices(pool, device_id)
    await log.append_committed(pool, [event(device_id, str(n)) for n in range(count)])


async def greet_one(pool: Pool, greeting: Greeting) -> cursors.Greeted:
    return (await cursors.greet(pool, [greeting]))[greeting.device_id]


async def test_a_greeting_raises_the_term_and_tells_where_the_log_stands(pool: Pool) -> None:
    await with_events(pool, "a", 5)
    await cursors.record_acks(pool, [Ack("a", 1, 2)])
    first = await greet_one(pool, Greeting("a", "i1", 0, "hub-1"))
    assert first == cursors.Greeted(
        "ok", epoch=1, floor=0, head=5, acked=2, conn_term=1, flaps=1.0, device_class="truck"
    )
    second = await greet_one(pool, Greeting("a", "i2", 0, "hub-2"))
    assert second.conn_term == 2
    state = await devices.get(pool, "a")
    assert state is not None
    assert state.hub == "hub-2"


async def test_a_lower_attempt_of_the_same_client_is_refused_and_an_equal_one_is_not(pool: Pool) -> None:
    await make_devices(pool, "a")
    assert (await greet_one(pool, Greeting("a", "i", 5, "h"))).verdict == "ok"
    assert (await greet_one(pool, Greeting("a", "i", 4, "h"))).verdict == "older_attempt"
    assert (await greet_one(pool, Greeting("a", "i", 5, "h"))).verdict == "ok"
    assert (await greet_one(pool, Greeting("a", "other", 0, "h"))).verdict == "ok"


async def test_a_ticket_admits_once(pool: Pool) -> None:
    await make_devices(pool, "a")
    ticket = Greeting("a", "i", 0, "h", "jti-12345678", time.time() + 60)
    assert (await greet_one(pool, ticket)).verdict == "ok"
    assert (await greet_one(pool, ticket)).verdict == "ticket_used"


async def test_the_ticket_of_a_device_that_does_not_exist_yet_stays_good(pool: Pool) -> None:
    ticket = Greeting("a", "i", 0, "h", "jti-12345678", time.time() + 60)
    assert (await greet_one(pool, ticket)).verdict == "unknown_device"
    await make_devices(pool, "a")
    assert (await greet_one(pool, ticket)).verdict == "ok"


async def test_one_ticket_used_on_two_hubs_at_the_same_moment_admits_one(pool: Pool) -> None:
    await make_devices(pool, "a")
    ticket = Greeting("a", "i", 0, "h", "jti-12345678", time.time() + 60)
    verdicts = [greeted.verdict for greeted in await asyncio.gather(*(greet_one(pool, ticket) for _ in range(6)))]
    assert sorted(verdicts) == ["ok"] + ["ticket_used"] * 5


async def test_many_handshakes_are_one_statement_and_each_gets_its_own_answer(pool: Pool) -> None:
    names = [f"d{n}" for n in range(50)]
    await make_devices(pool, *names)
    answers = await cursors.greet(pool, [Greeting(name, "i", 0, "h") for name in [*names, "nobody"]])
    assert {answers[name].verdict for name in names} == {"ok"}
    assert answers["nobody"].verdict == "unknown_device"
    with pytest.raises(ValueError, match="at most once"):
        await cursors.greet(pool, [Greeting("d1", "i", 0, "h")] * 2)


async def test_an_ack_moves_only_upward_only_to_the_head_and_only_in_its_epoch(pool: Pool) -> None:
    await with_events(pool, "a", 5)

    async def acked_after(ack: Ack) -> int:
        return (await cursors.record_acks(pool, [ack]))[0].acked

    assert await acked_after(Ack("a", 1, 3)) == 3
    assert await acked_after(Ack("a", 1, 2)) == 3
    assert await acked_after(Ack("a", 1, 6)) == 3
    assert await acked_after(Ack("a", 2, 5)) == 3
    assert await acked_after(Ack("a", 1, 5)) == 5
    assert await cursors.record_acks(pool, [Ack("nobody", 1, 1)]) == []


async def test_of_gathered_acks_the_highest_counts(pool: Pool) -> None:
    await with_events(pool, "a", 5)
    results = await cursors.record_acks(pool, [Ack("a", 1, 2), Ack("a", 1, 4), Ack("a", 1, 1)])
    assert [result.acked for result in results] == [4]


async def test_an_ack_of_the_old_epoch_that_waited_for_the_raise_misses(pool: Pool) -> None:
    await with_events(pool, "a", 5)
    raising = asyncio.Event()

    async def raise_slowly() -> None:
        async with pool.transaction() as connection:
            await connection.execute("UPDATE devices SET epoch = 2")
            await connection.execute("UPDATE cursors SET epoch = 2")
            raising.set()
            waiting = (
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            )
            async with asyncio.timeout(5):
                while not (await pool.fetch(waiting))[0][0]:
                    await asyncio.sleep(0)

    task = asyncio.create_task(raise_slowly())
    await raising.wait()
    await cursors.record_acks(pool, [Ack("a", 1, 5)])
    await task
    state = await devices.get(pool, "a")
    assert state is not None
    assert (state.epoch, state.acked) == (2, 0)


async def test_the_sweep_returns_what_changed_and_only_that(pool: Pool) -> None:
    await with_events(pool, "a", 3)
    await with_events(pool, "b", 3)
    known = [Known("a", 1, 3, 0, 0), Known("b", 1, 3, 0, 0), Known("gone", 1, 0, 0, 0)]
    assert await cursors.sweep(pool, known) == []
    await cursors.record_acks(pool, [Ack("a", 1, 1)])
    assert [(row.device_id, row.acked) for row in await cursors.sweep(pool, known)] == [("a", 1)]
    await cursors.greet(pool, [Greeting("b", "i9", 0, "h")])
    changed = {row.device_id: row for row in await cursors.sweep(pool, known)}
    assert (changed["b"].conn_term, changed["b"].instance) == (1, "i9")


async def test_only_the_newest_connection_can_say_that_a_device_is_gone(pool: Pool) -> None:
    await make_devices(pool, "a")
    await greet_one(pool, Greeting("a", "i", 0, "hub-1"))
    await greet_one(pool, Greeting("a", "i", 1, "hub-2"))
    await cursors.mark_disconnected(pool, [Departure("a", 1)])
    state = await devices.get(pool, "a")
    assert state is not None
    assert state.hub == "hub-2"
    await cursors.mark_disconnected(pool, [Departure("a", 2)])
    state = await devices.get(pool, "a")
    assert state is not None
    assert state.hub is None


async def test_a_token_revoked_by_its_id_is_refused_known_device_or_not(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    await pool.fetch(
        "INSERT INTO revoked_tokens (token_id, subject, reason, expires_at) VALUES ('t1', 'a', 'lost', 'infinity')"
    )
    assert (await greet_one(pool, Greeting("a", "i", 0, "h", token_id="t1"))).verdict == "revoked"
    # Another issuer has given the same id to a token of another device.
    assert (await greet_one(pool, Greeting("b", "i", 0, "h", token_id="t1"))).verdict == "ok"
    assert (await greet_one(pool, Greeting("new", "i", 0, "h", token_id="t1"))).verdict == "unknown_device"
    await pool.fetch("UPDATE revoked_tokens SET subject = 'new'")
    assert (await greet_one(pool, Greeting("new", "i", 0, "h", token_id="t1"))).verdict == "revoked"
    await pool.fetch("UPDATE revoked_tokens SET subject = 'a'")
    assert (await greet_one(pool, Greeting("a", "i", 0, "h", token_id="t2"))).verdict == "ok"
    assert (await greet_one(pool, Greeting("a", "i", 0, "h"))).verdict == "ok"


async def test_tokens_issued_before_all_of_a_device_were_revoked_are_refused_and_newer_ones_are_not(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    await pool.fetch("UPDATE devices SET tokens_valid_from = to_timestamp(1000.5) WHERE device_id = 'a'")

    async def verdict(device_id: str, issued_at: float | None) -> str:
        return (await greet_one(pool, Greeting(device_id, "i", 0, "h", issued_at=issued_at))).verdict

    assert await verdict("a", 1000.4) == "revoked"
    assert await verdict("a", None) == "revoked"
    assert await verdict("a", 1000.5) == "ok"
    assert await verdict("b", None) == "ok"


async def test_the_sweep_returns_a_device_whose_token_was_revoked_though_nothing_else_changed(pool: Pool) -> None:
    await with_events(pool, "a", 1)
    await with_events(pool, "b", 1)
    known = [Known("a", 1, 1, 0, 0, 1000.0, "t1"), Known("b", 1, 1, 0, 0, 1000.0, "t1")]
    assert await cursors.sweep(pool, known) == []
    await pool.fetch(
        "INSERT INTO revoked_tokens (token_id, subject, reason, expires_at) VALUES ('t1', 'a', 'lost', 'infinity')"
    )
    assert [(one.device_id, one.revoked) for one in await cursors.sweep(pool, known)] == [("a", True)]
    await pool.fetch("UPDATE devices SET tokens_valid_from = to_timestamp(1000.5) WHERE device_id = 'b'")
    assert [one.device_id for one in await cursors.sweep(pool, known)] == ["a", "b"]
    renewed = [Known("b", 1, 1, 0, 0, 1001.0, "t3")]
    assert await cursors.sweep(pool, renewed) == []


async def hub_row(pool: Pool, name: str, started: str) -> None:
    await pool.fetch(
        "INSERT INTO hubs (name, instance, url, capacity, started_at) VALUES ($1, 'run', 'ws://h', 9, "
        "clock_timestamp() + $2::text::interval) ON CONFLICT (name) DO UPDATE SET started_at = EXCLUDED.started_at",
        name,
        started,
    )


async def test_flaps_count_connections_and_fade(pool: Pool) -> None:
    await make_devices(pool, "a")
    await hub_row(pool, "h", "-200 years")
    for expected in (1, 2, 3):
        assert (await greet_one(pool, Greeting("a", "i", 0, "h"))).flaps == pytest.approx(expected, abs=0.3)
    await pool.fetch("UPDATE cursors SET connected_at = connected_at - interval '120 seconds'")
    assert (await greet_one(pool, Greeting("a", "i", 0, "h"))).flaps == pytest.approx(1 + 3 / 2.71828, abs=0.3)
    await pool.fetch("UPDATE cursors SET connected_at = connected_at - interval '100 years'")
    assert (await greet_one(pool, Greeting("a", "i", 0, "h"))).flaps == pytest.approx(1, abs=0.01)
    # A clock that was set back ages nothing.
    await pool.fetch("UPDATE cursors SET connected_at = connected_at + interval '100 years'")
    assert (await greet_one(pool, Greeting("a", "i", 0, "h"))).flaps == pytest.approx(2, abs=0.01)


async def test_a_connection_that_its_hub_ended_is_no_flap(pool: Pool) -> None:
    await make_devices(pool, "a")
    await hub_row(pool, "h1", "-1 hour")
    first = await greet_one(pool, Greeting("a", "i", 0, "h1"))
    # The hub was started again: it took the connection with it.
    await hub_row(pool, "h1", "1 minute")
    second = await greet_one(pool, Greeting("a", "i", 0, "h2"))
    assert second.flaps == pytest.approx(first.flaps, abs=0.3)
    # A hub that is no more.
    third = await greet_one(pool, Greeting("a", "i", 0, "h1"))
    assert third.flaps == pytest.approx(first.flaps, abs=0.3)
    # Sent away, and welcomed elsewhere before its old socket had gone.
    await hub_row(pool, "h1", "-1 hour")
    fourth = await greet_one(pool, Greeting("a", "i", 0, "h1"))
    assert fourth.flaps == pytest.approx(first.flaps + 1, abs=0.3)
    await cursors.mark_disconnected(pool, [Departure("a", third.conn_term, excused=1)])
    state = await devices.get(pool, "a")
    assert state is not None
    assert state.hub == "h1"
    assert (await pool.fetch("SELECT flaps FROM cursors"))[0]["flaps"] == pytest.approx(first.flaps, abs=0.3)
    # One that went by itself is one.
    await cursors.mark_disconnected(pool, [Departure("a", fourth.conn_term)])
    fifth = await greet_one(pool, Greeting("a", "i", 0, "h1"))
    assert fifth.flaps == pytest.approx(first.flaps + 1, abs=0.3)


async def test_a_device_sent_to_its_owner_is_known_to_have_been(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    assert (await greet_one(pool, Greeting("a", "i", 0, "h"))).since_rehomed_s is None
    await cursors.mark_rehomed(pool, ["a", "nobody"])
    await cursors.mark_rehomed(pool, [])
    await pool.fetch("UPDATE cursors SET rehomed_at = rehomed_at - interval '300 seconds'")
    since = (await greet_one(pool, Greeting("a", "i", 0, "h"))).since_rehomed_s
    assert since == pytest.approx(300, abs=30)
    assert (await greet_one(pool, Greeting("b", "i", 0, "h"))).since_rehomed_s is None
