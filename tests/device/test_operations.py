"""Operations of a client against a real socket server and a real HTTP server: each has one effect and one result."""

import asyncio
import json
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from device import (
    Client,
    ClientClosed,
    ConfigurationError,
    OperationInvalid,
    OutboxError,
    OutboxFull,
    OutboxLimits,
    Result,
    Revoked,
    State,
    new_id,
)
from device.outbox_file import OutboxFile
from shared.clock import wall
from tests.device.clients import DEADLINE_S, FAST, client_of, live, until
from tests.device.fleet import Fleet, problem
from tests.device.office import create, update


async def results_of(client: Client, count: int) -> list[Result]:
    """The next results, the last one finished too."""
    taken: list[Result] = []
    async with asyncio.timeout(DEADLINE_S):
        async for result in client.results():
            taken.append(result)
            if len(taken) == count:
                await client.finish(result)
                break
    return taken


def statuses(results: list[Result]) -> list[str]:
    return [one.status for one in results]


def sizes(fleet: Fleet, via: str = "") -> list[int]:
    return [len(operations) for way, operations in fleet.office.batches if via in ("", way)]


async def test_an_operation_has_its_effect_and_its_result(fleet: Fleet, tmp_path: Path) -> None:
    entity = new_id()
    async with client_of(fleet, tmp_path) as client:
        op_id = await client.submit(create(entity))
        (result,) = await results_of(client, 1)
        await asyncio.wait_for(client.wait_settled(), DEADLINE_S)
        assert client.outbox == (0, 0, "")
    assert (result.op_id, result.status, result.http, result.version) == (op_id, "applied", 200, 1)
    assert result.has_effect
    assert not result.redelivered
    assert result.operation == create(entity, op_id=op_id)
    assert fleet.office.applied == [op_id]


async def test_what_was_made_offline_goes_in_batches_of_a_hundred_in_order(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.api_gate.set("refuse")
    async with client_of(fleet, tmp_path) as client:
        op_ids = [await client.submit(create(new_id())) for _ in range(130)]
        assert client.outbox.waiting == 130
    await fleet.api_gate.set("forward")
    async with client_of(fleet, tmp_path) as client:
        results = await results_of(client, 130)
    assert [one.op_id for one in results] == op_ids
    assert set(statuses(results)) == {"applied"}
    assert fleet.office.applied == op_ids
    assert sizes(fleet) == [100, 30]


async def test_a_chain_is_made_upon_the_versions_that_come_of_it(fleet: Fleet, tmp_path: Path) -> None:
    entity = new_id()
    await fleet.api_gate.set("refuse")
    async with client_of(fleet, tmp_path) as client:
        last = await client.submit(create(entity))
        for number in range(130):
            last = await client.submit(update(entity, {f"{number}": number}), after=last)
        await fleet.api_gate.set("forward")
        client.hurry()
        results = await results_of(client, 131)
        assert [one.version for one in results] == list(range(1, 132))
        await client.submit(update(entity, {"129": None}), after=last)
        (later,) = await results_of(client, 1)
    assert later.version == 132
    assert sum(sizes(fleet)) == 132, "each was sent once"
    assert json.loads(fleet.office.entities[entity].answers)["128"] == 128


async def test_what_is_submitted_while_the_answer_comes_is_made_after_it_all_the_same(
    fleet: Fleet, tmp_path: Path
) -> None:
    entity, adding, go_on = new_id(), threading.Event(), threading.Event()
    fleet.sync_hold = asyncio.Event()
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        first = await client.submit(create(entity))
        await until(lambda: fleet.office.batches)
        file = (await client._running().operations())._file
        add = file.add

        def slow(one: Any) -> Any:
            adding.set()
            assert go_on.wait(DEADLINE_S)
            return add(one)

        file.add = slow  # type: ignore[method-assign]
        second = asyncio.ensure_future(client.submit(update(entity), after=first))
        await until(adding.is_set)
        fleet.sync_hold.set()
        await asyncio.sleep(0.1)  # as long as the answer takes; the operation is half written meanwhile
        go_on.set()
        results = await results_of(client, 2)
    assert [(one.op_id, one.version) for one in results] == [(first, 1), (await second, 2)]


async def test_a_conflict_brings_the_servers_state_and_nothing_is_built_upon_it(fleet: Fleet, tmp_path: Path) -> None:
    entity = new_id()
    async with client_of(fleet, tmp_path) as client:
        await client.submit(create(entity))
        await results_of(client, 1)
        fleet.office.other_changes(entity)
        await fleet.api_gate.set("refuse")
        await fleet.hub_gate.set("refuse")
        ours = await client.submit(update(entity, base_version=1))
        then = await client.submit(update(entity), after=ours)
        await fleet.api_gate.set("forward")
        await fleet.hub_gate.set("forward")
        client.hurry()
        first, second = await results_of(client, 2)
        assert (first.op_id, first.status, first.http, first.version) == (ours, "conflict", 409, 2)
        assert first.entity is not None
        assert first.entity["version"] == 2
        assert (second.op_id, second.status, second.http) == (then, "rejected", 424)
        assert second.error is not None
        assert second.error.code == "not_sent"
        late = await client.submit(update(entity), after=then)
        await client.submit(update(entity, {"merged": True}, base_version=first.entity["version"]))
        outcomes = {one.op_id: one.status for one in await results_of(client, 2)}
    assert outcomes.pop(late) == "rejected", "whenever it is submitted"
    assert list(outcomes.values()) == ["applied"]


async def test_a_batch_that_fits_goes_over_the_socket_and_a_large_one_by_rest(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        await client.submit(create(new_id()))
        await results_of(client, 1)
        assert fleet.office.batches[-1][0] == "socket"
        entity = new_id()
        first = await client.submit(create(entity))
        await client.submit(update(entity, {"text": "x" * 65_400}), after=first)
        assert statuses(await results_of(client, 2)) == ["applied", "applied"]
        assert fleet.office.batches[-1][0] == "rest"


async def test_no_more_goes_over_the_socket_than_its_rate_allows(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        for _ in range(8):
            operation = create(new_id())
            operation["data"]["answers"] = {"text": "x" * 60_000}
            await client.submit(operation)
            await results_of(client, 1)
    ways = [way for way, _ in fleet.office.batches]
    assert ways[0] == "socket"
    assert "rest" in ways


@pytest.mark.parametrize("code", ["too_large", "not_supported", "unknown_type", "keys_spent"])
async def test_what_the_hub_does_not_take_goes_by_rest(fleet: Fleet, tmp_path: Path, code: str) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        fleet.sync_answers = [{"type": "error", "code": code, "detail": "no"}]
        for _ in range(2):
            await client.submit(create(new_id()))
            assert statuses(await results_of(client, 1)) == ["applied"]
    assert [way for way, _ in fleet.office.batches] == ["rest", "rest"]


@pytest.mark.parametrize("code", ["busy", "unavailable"])
async def test_a_busy_hub_is_asked_again_later(fleet: Fleet, tmp_path: Path, code: str) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        fleet.sync_answers = [{"type": "error", "code": code, "detail": "no"}] * 2
        await client.submit(create(new_id()))
        assert statuses(await results_of(client, 1)) == ["applied"]
    assert not fleet.sync_answers


async def test_a_hub_that_says_nothing_is_gone_round(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path, timing=replace(FAST, sync_answer_s=0.1)) as client:
        await live(client)
        fleet.sync_answers = [None]
        await client.submit(create(new_id()))
        assert statuses(await results_of(client, 1)) == ["applied"]
    assert [way for way, _ in fleet.office.batches] == ["rest"]


async def test_a_socket_that_closes_before_the_answer_costs_nothing(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        fleet.sync_answers = [None]
        op_id = await client.submit(create(new_id()))
        await until(lambda: not fleet.sync_answers)
        fleet.hub_gate.cut()
        assert statuses(await results_of(client, 1)) == ["applied"]
    assert fleet.office.applied == [op_id]


async def test_a_client_with_a_socket_alone_uses_that(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path, api=None, socket_url=fleet.hub_url) as client:
        for _ in range(3):
            operation = create(new_id())
            operation["data"]["answers"] = {"text": "x" * 25_000}
            await client.submit(operation)
        assert statuses(await results_of(client, 3)) == ["applied"] * 3
        entity = new_id()
        await client.submit(create(entity))
        await client.submit(update(entity, {"text": "x" * 65_400}, base_version=1))
        small, large = await results_of(client, 2)
    assert small.status == "applied"
    assert (large.status, large.http) == ("rejected", 413)
    assert all(size <= 3 for size in sizes(fleet, "socket"))


async def test_an_answer_that_is_cut_in_the_middle_is_asked_for_again(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.hub_gate.set("refuse")
    fleet.sync_cuts = [0, 40, 3000]
    async with client_of(fleet, tmp_path) as client:
        op_ids = [await client.submit(create(new_id())) for _ in range(40)]
        results = await results_of(client, 40)
    assert not fleet.sync_cuts
    assert sorted(one.op_id for one in results) == sorted(op_ids)
    assert {"duplicate"} <= set(statuses(results)) <= {"applied", "duplicate"}
    assert all(one.has_effect for one in results)
    assert len(fleet.office.applied) == 40


async def test_retry_after_is_followed_and_outlives_a_restart(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.hub_gate.set("refuse")
    status, headers, body = problem(503)
    fleet.sync_refusals = [(status, {**headers, "Retry-After": "3600"}, body)]
    async with client_of(fleet, tmp_path) as client:
        await client.submit(create(new_id()))
        await until(lambda: not fleet.sync_refusals)
        await until(lambda: "503" in client.outbox.trouble)
        client.hurry()
    async with client_of(fleet, tmp_path) as client:
        await asyncio.wait_for(client.wait_for_state(State.REST), DEADLINE_S)
        await client.submit(create(new_id()))
        await asyncio.sleep(0)
        assert client.outbox.waiting == 2
    assert fleet.office.batches == []
    file = OutboxFile(tmp_path, "truck-7")
    saved = file.load(wall(), 0.0)
    file.close()
    assert 3500 < saved.wait.due < 4600


@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_server_in_trouble_is_tried_again(fleet: Fleet, tmp_path: Path, status: int) -> None:
    await fleet.hub_gate.set("refuse")
    fleet.sync_refusals = [problem(status), (status, {"Content-Type": "text/html"}, b"proxy")]
    async with client_of(fleet, tmp_path) as client:
        await client.submit(create(new_id()))
        assert statuses(await results_of(client, 1)) == ["applied"]


async def test_an_entity_that_is_locked_keeps_back_only_its_own(fleet: Fleet, tmp_path: Path) -> None:
    locked, free = new_id(), new_id()
    fleet.office.busy = {locked}
    await fleet.api_gate.set("refuse")
    async with client_of(fleet, tmp_path) as client:
        first = await client.submit(create(locked))
        second = await client.submit(update(locked), after=first)
        other = await client.submit(create(free))
        await fleet.api_gate.set("forward")
        client.hurry()
        results = await results_of(client, 3)
    assert [one.op_id for one in results] == [other, first, second]
    assert set(statuses(results)) == {"applied"}


async def test_a_batch_that_cannot_be_read_ends_with_the_one_that_spoils_it(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.hub_gate.set("refuse")
    bad = new_id()
    read = fleet._batch

    def batch(body: bytes) -> Any:
        return problem(400, type="urn:fleetwire:problem:invalid-body") if bad.encode() in body else read(body)

    fleet._batch = batch  # type: ignore[method-assign]
    await fleet.api_gate.set("refuse")
    async with client_of(fleet, tmp_path) as client:
        for _ in range(5):
            await client.submit(create(new_id()))
        await client.submit(create(bad))
        for _ in range(5):
            await client.submit(create(new_id()))
        await fleet.api_gate.set("forward")
        client.hurry()
        results = await results_of(client, 11)
    (rejected,) = [one for one in results if one.status != "applied"]
    assert rejected.operation["entity_id"] == bad
    assert (rejected.status, rejected.http) == ("rejected", 400)
    assert rejected.error is not None
    assert rejected.error.code == "invalid-body"


async def test_results_are_kept_until_their_body_has_ended(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        op_ids = [await client.submit(create(new_id())) for _ in range(3)]
        await asyncio.wait_for(client.wait_settled(), DEADLINE_S)
        assert client.outbox[:2] == (0, 3)
        async with asyncio.timeout(DEADLINE_S):
            async for result in client.results():
                if result.op_id == op_ids[1]:
                    break
            async for result in client.results():
                assert (result.op_id, result.redelivered) == (op_ids[1], True)
                break
    async with client_of(fleet, tmp_path) as client:
        results = await results_of(client, 2)
        assert client.outbox[:2] == (0, 0)
    assert [(one.op_id, one.redelivered) for one in results] == [(op_ids[1], True), (op_ids[2], False)]


async def test_a_full_queue_refuses_and_says_what_to_do(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.api_gate.set("refuse")
    async with client_of(fleet, tmp_path, outbox_limits=OutboxLimits(rows=2)) as client:
        await client.submit(create(new_id()))
        await client.submit(create(new_id()))
        with pytest.raises(OutboxFull, match="2 operations wait"):
            await client.submit(create(new_id()))
        await fleet.api_gate.set("forward")
        client.hurry()
        await asyncio.wait_for(client.wait_settled(), DEADLINE_S)
        with pytest.raises(OutboxFull, match="2 results to be taken"):
            await client.submit(create(new_id()))
        await results_of(client, 1)
        await client.submit(create(new_id()))


async def test_a_disk_that_is_full_when_the_answer_comes_loses_nothing(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        keeper = await client._running().operations()
        settle, failures = keeper._file.settle, 0

        def failing(*args: Any, **options: Any) -> None:
            nonlocal failures
            failures += 1
            if failures < 3:
                raise OutboxError("database or disk is full")
            settle(*args, **options)

        keeper._file.settle = failing  # type: ignore[method-assign]
        op_id = await client.submit(create(new_id()))
        (result,) = await results_of(client, 1)
    assert (result.op_id, result.status, failures) == (op_id, "duplicate", 3)
    assert fleet.office.applied == [op_id]


async def test_what_is_malformed_is_refused_at_once(fleet: Fleet, tmp_path: Path) -> None:
    entity = new_id()
    async with client_of(fleet, tmp_path) as client:
        for operation, field in (
            (update("x"), "entity_id"),
            (update(entity), "base_version"),
            ({**create(entity), "data": {}}, "data.template_id"),
            ({**create(entity), "type": "inspection.burn"}, "type"),
            (update(entity, {"n": float("nan")}, base_version=1), ""),
            (update(entity, {"n": object()}, base_version=1), ""),
            (update(entity, {"x": "y" * 70_000}, base_version=1), "data.answers"),
        ):
            with pytest.raises(OperationInvalid) as refused:
                await client.submit(operation)
            assert refused.value.field == field
        for operation in (create(entity), update(entity, base_version=1)):
            with pytest.raises(OperationInvalid) as refused:
                await client.submit(operation, after=new_id())
            assert refused.value.field == "after"
        assert client.outbox.waiting == 0
        op_id = await client.submit(create(entity, op_id=new_id()))
        assert await client.submit(create(entity, op_id=op_id)) == op_id
        with pytest.raises(OperationInvalid, match="another operation's"):
            await client.submit(create(new_id(), op_id=op_id))
        await results_of(client, 1)
    assert fleet.office.applied == [op_id]


async def test_operations_need_a_place_and_an_open_client(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet) as client:
        with pytest.raises(ConfigurationError, match="outbox_folder"):
            await client.submit(create(new_id()))
    client = client_of(fleet, outbox_folder=tmp_path)
    with pytest.raises(ClientClosed):
        await client.submit(create(new_id()))
    async with client:
        await client.submit(create(new_id()))
        waiting = asyncio.ensure_future(results_of(client, 2))
        await until(lambda: client.outbox.waiting == 0)
    with pytest.raises(ClientClosed):
        await waiting
    assert (tmp_path / "truck-7.outbox").exists()


async def test_a_client_that_has_ended_still_gives_the_results_it_has(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        await live(client)
        await client.submit(create(new_id()))
        await asyncio.wait_for(client.wait_settled(), DEADLINE_S)
        await fleet.close_sockets(4301)
        await asyncio.wait_for(client.wait_for_state(State.CLOSED), DEADLINE_S)
        assert statuses(await results_of(client, 1)) == ["applied"]
        await client.submit(create(new_id()))
        with pytest.raises(Revoked):
            await results_of(client, 1)
        with pytest.raises(Revoked):
            await client.wait_settled()


async def test_many_submit_at_once_and_one_that_is_cancelled_is_kept_or_not(fleet: Fleet, tmp_path: Path) -> None:
    async with client_of(fleet, tmp_path) as client:
        tasks = [asyncio.ensure_future(client.submit(create(new_id()))) for _ in range(30)]
        await asyncio.sleep(0)
        for task in tasks[::5]:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        op_ids = {one for one in done if isinstance(one, str)}
        await asyncio.wait_for(client.wait_settled(), DEADLINE_S)
        results = await results_of(client, client.outbox.results)
    told = [one.op_id for one in results]
    assert len(told) == len(set(told))
    assert op_ids <= set(told)
    assert sorted(told) == sorted(fleet.office.applied)
