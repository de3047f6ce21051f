"""A key under which a request is done once: replays, rivals, reuse, what is not kept, and handlers that are lost."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from random import Random
from uuid import uuid4

import asyncpg
import pytest
from starlette.responses import Response, StreamingResponse

from api.idempotency import Once, RequestKeys, fingerprint_of, key_of
from api.problems import Problem
from shared.store import request_keys
from shared.store.errors import StoreUnavailable
from shared.store.pool import Pool
from shared.store.request_keys import Claim
from tests.api.conftest import RunningApi, StartApi, problem
from tests.shared.sync.samples import add_template, an_id, create

PATH = "/api/v1/sync/batch"
WHO = "operator:olga"


@pytest.fixture
async def keys(pool: Pool) -> RequestKeys:
    return RequestKeys(pool, keys_per_day=100, rand=Random(1))


async def once(
    keys: RequestKeys, handle: Callable[[Once], Awaitable[Response]], *, body: bytes = b"", key: str = "k", s: float = 5
) -> Response:
    return await keys.once(WHO, key, fingerprint_of(b"POST", body), handle, deadline_s=s, request_id="r")


def answering(status: int = 200, body: bytes = b"{}") -> Callable[[Once], Awaitable[Response]]:
    async def handle(held: Once) -> Response:
        return Response(body, status, {"ETag": '"7"'}, media_type="application/json")

    return handle


async def never(held: Once) -> Response:
    raise AssertionError("handled again")


async def test_a_request_sent_again_is_given_the_same_answer(api: RunningApi, sql: asyncpg.Connection) -> None:
    await add_template(sql)
    operation = create(an_id())
    body = json.dumps({"operations": [operation]})
    truck = api.device("truck-7")
    headers = {"Idempotency-Key": '"k 1"', "Content-Type": "application/json"}
    first = await truck.post(PATH, content=body, headers=headers)
    again = await truck.post(f"{PATH}/", content=body, headers=headers)
    assert first.status_code == again.status_code == 200
    assert first.content == again.content
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["content-type"] == "application/json"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    other = await truck.post(PATH, content=body + " ", headers=headers)
    problem(other, 422, "idempotency-key-reused")
    # Another caller's key is another key, and without one everything is as ever.
    assert (await api.device("truck-8").post(PATH, content=body, headers=headers)).json()["results"][0]["http"] == 403
    assert (await truck.post(PATH, json={"operations": [operation]})).json()["results"][0]["status"] == "duplicate"


async def test_a_key_that_cannot_be_read_is_refused(api: RunningApi) -> None:
    truck = api.device("truck-7")
    for key in ("", '"', '""', 'a"b', "a b", "k" * 256, '"\\"'):
        answer = await truck.post(PATH, json={"operations": [{}]}, headers={"Idempotency-Key": key})
        assert problem(answer, 400, "invalid-request")["field"] == "Idempotency-Key"
    many = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    problem(await truck.post(PATH, json={"operations": [{}]}, headers=many), 400, "invalid-request")


async def test_fifty_at_once_with_one_key_are_handled_once(
    api: RunningApi, start_api: StartApi, sql: asyncpg.Connection
) -> None:
    await add_template(sql)
    other = await start_api()
    clients = [api.device("truck-7"), other.device("truck-7")]
    body = {"operations": [create(an_id())]}
    answers = await asyncio.gather(
        *(clients[n % 2].post(PATH, json=body, headers={"Idempotency-Key": "k"}) for n in range(50))
    )
    statuses = {answer.status_code for answer in answers}
    assert statuses <= {200, 409}
    assert len({answer.content for answer in answers if answer.status_code == 200}) == 1
    for answer in answers:
        if answer.status_code == 409:
            problem(answer, 409, "in-progress")
            assert 1 <= int(answer.headers["retry-after"]) <= 2
    results = [answer.json()["results"][0]["status"] for answer in answers if answer.status_code == 200]
    assert set(results) == {"applied"}
    assert await sql.fetchval("SELECT count(*) FROM sync_operations") == 1
    last = await clients[1].post(PATH, json=body, headers={"Idempotency-Key": "k"})
    assert last.headers["idempotency-replayed"] == "true"


async def test_while_one_is_handled_a_rival_is_told_to_ask_again(keys: RequestKeys) -> None:
    begun, go = asyncio.Event(), asyncio.Event()

    async def slow(held: Once) -> Response:
        begun.set()
        await go.wait()
        return Response(b"done", 201, {"ETag": '"7"'})

    first = asyncio.create_task(once(keys, slow))
    await begun.wait()
    with pytest.raises(Problem) as caught:
        await once(keys, never)
    assert caught.value.slug == "in-progress"
    with pytest.raises(Problem) as caught:
        await once(keys, never, body=b"other")
    assert caught.value.slug == "idempotency-key-reused"
    go.set()
    await first
    again = await once(keys, never)
    assert (again.status_code, again.body, again.headers["etag"]) == (201, b"done", '"7"')
    assert (again.headers["content-length"], again.headers["idempotency-replayed"]) == ("4", "true")


async def test_a_problem_of_the_request_is_an_answer_like_any(keys: RequestKeys) -> None:
    async def missing(held: Once) -> Response:
        raise Problem("not-found", "no such thing", field="x")

    with pytest.raises(Problem):
        await once(keys, missing)
    again = await once(keys, never)
    assert again.status_code == 404
    assert json.loads(bytes(again.body))["field"] == "x"
    assert again.headers["content-type"] == "application/problem+json"


async def test_what_says_nothing_about_the_request_is_not_kept(keys: RequestKeys) -> None:
    def raising(error: Exception) -> Callable[[Once], Awaitable[Response]]:
        async def handle(held: Once) -> Response:
            raise error

        return handle

    async def streamed(held: Once) -> Response:
        return StreamingResponse(iter([b"x"]))

    for error in (
        Problem("unavailable", "later"),
        Problem("too-many-requests", "later"),
        StoreUnavailable(),
        ValueError(),
    ):
        with pytest.raises(type(error)):
            await once(keys, raising(error))
    assert (await once(keys, answering(503))).status_code == 503
    assert (await once(keys, streamed)).status_code == 200
    assert (await once(keys, answering(200, b"x" * (1024 * 1024 + 1)))).status_code == 200
    assert (await once(keys, answering(200, b"x" * 1024 * 1024))).status_code == 200
    assert (await once(keys, never)).headers["idempotency-replayed"] == "true"


async def test_a_claim_that_was_left_is_taken_over_by_the_same_request_only(
    keys: RequestKeys, sql: asyncpg.Connection
) -> None:
    ids = []

    async def lost(held: Once) -> Response:
        ids.append(held.uuid("thing"))
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await once(keys, lost)
    with pytest.raises(Problem, match="being handled"):
        await once(keys, never)
    await sql.execute("UPDATE request_keys SET locked_until = clock_timestamp()")
    with pytest.raises(Problem, match="another request"):
        await once(keys, never, body=b"other")

    async def found(held: Once) -> Response:
        ids.append(held.uuid("thing"))
        assert held.uuid("other") != ids[0]
        return Response(b"ok")

    assert (await once(keys, found)).body == b"ok"
    assert ids[0] == ids[1]
    assert ids[0].version == 7
    assert abs(ids[0].int >> 80) // 1000 - datetime.now(UTC).timestamp() < 60


async def test_a_holder_that_comes_too_late_changes_nothing(
    keys: RequestKeys, pool: Pool, sql: asyncpg.Connection
) -> None:
    async def overtaken(held: Once) -> Response:
        await sql.execute("UPDATE request_keys SET locked_until = clock_timestamp()")
        assert (await once(keys, answering(201))).status_code == 201
        async with pool.transaction() as connection:
            await connection.execute("INSERT INTO operation_days (principal, day) VALUES ('effect', now())")
            await held.seal(connection, Response(b"late"))
        return Response(b"late")

    with pytest.raises(Problem, match="taken over"):
        await once(keys, overtaken)
    assert (await once(keys, never)).status_code == 201
    assert not await sql.fetchval("SELECT count(*) FROM operation_days WHERE principal = 'effect'")


async def test_an_answer_sealed_with_its_effect_is_there_though_the_handler_is_lost(
    keys: RequestKeys, pool: Pool
) -> None:
    async def lost(held: Once) -> Response:
        async with pool.transaction() as connection:
            await held.seal(connection, Response(b"sealed", 201))
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await once(keys, lost)
    assert (await once(keys, never)).body == b"sealed"


async def test_after_a_day_a_key_is_a_new_one(keys: RequestKeys, pool: Pool, sql: asyncpg.Connection) -> None:
    ids = []

    async def made(held: Once) -> Response:
        ids.append(held.uuid("thing"))
        return Response(b"ok")

    await once(keys, made)
    await sql.execute("UPDATE request_keys SET created_at = created_at - interval '25 hours'")
    assert "idempotency-replayed" not in (await once(keys, made, body=b"other")).headers
    assert ids[0] != ids[1]
    assert await request_keys.prune(pool) == 0
    await sql.execute("UPDATE request_keys SET created_at = created_at - interval '25 hours'")
    await once(keys, answering(), key="fresh")
    assert await request_keys.prune(pool) == 1


async def test_the_keys_of_a_day_are_bounded(pool: Pool) -> None:
    keys = RequestKeys(pool, keys_per_day=2, rand=Random(1))
    for key in ("a", "b"):
        await once(keys, answering(), key=key)
    with pytest.raises(Problem) as caught:
        await once(keys, never, key="c")
    assert (caught.value.slug, caught.value.members) == ("keys-spent", {"limit": 2})
    assert (await once(keys, never, key="b")).status_code == 200


async def test_a_key_that_was_given_up_does_not_count(pool: Pool, sql: asyncpg.Connection) -> None:
    keys = RequestKeys(pool, keys_per_day=2, rand=Random(1))
    for _ in range(5):
        assert (await once(keys, answering(503))).status_code == 503
    assert (await once(keys, answering())).status_code == 200
    assert (await once(keys, answering(), key="l")).status_code == 200
    for _ in range(3):
        with pytest.raises(Problem, match="more than 2"):
            await once(keys, never, key="m")
    assert await sql.fetchval("SELECT used FROM operation_days") == 2


def test_where_a_key_is_needed_its_absence_is_named() -> None:
    assert key_of({}, "optional") is None
    with pytest.raises(Problem, match="needs an Idempotency-Key"):
        key_of({}, "required")
    for raw in (b"abc", b'"abc"'):
        assert key_of({b"idempotency-key": [raw]}, "required") == "abc"


def test_an_id_follows_from_the_caller_the_key_and_its_first_use() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    claim = Claim(WHO, "k", at, at)
    assert Once(claim).uuid("job") == Once(claim._replace(locked_until=datetime.now(UTC))).uuid("job")
    others = [
        claim._replace(key="l"),
        claim._replace(principal="device:olga"),
        claim._replace(created_at=at.replace(day=23)),
    ]
    assert len({Once(one).uuid("job") for one in [claim, *others]}) == 4
    assert Once(claim).uuid("job") != uuid4()
