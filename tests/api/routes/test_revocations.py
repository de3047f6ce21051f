"""Revoking by REST: at once, for every request; a list to look at; only operators."""

import asyncio
import time
from typing import Any

import pytest

from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import RING, RunningApi, problem, record, token
from tests.api.routes.test_events import waiting as until_waiting

PATH = "/api/v1/revocations"
EVENTS = "/api/v1/devices/truck-7/events"


def token_with_id(token_id: str, subject: str = "truck-7", scope: str = "device") -> str:
    return RING.mint(
        subject=subject, scopes=frozenset({scope}), now=time.time(), lifetime_s=600, token_id=token_id
    )  # fmt: skip


async def test_all_tokens_of_a_device_until_now_are_refused_and_later_ones_are_not(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    device = api.device("truck-7")
    assert (await device.get(EVENTS)).status_code == 200
    revoked = await api.operator.post(PATH, json={"device_id": "truck-7"})
    assert revoked.status_code == 200
    assert revoked.json()["token_id"] is None
    refused = problem(await device.get(EVENTS), 401, "unauthorized")
    assert refused["reason"] == "revoked"
    assert (await api.device("truck-7").get(EVENTS)).status_code == 200
    # The same request once more, its answer having been lost.
    again = await api.operator.post(
        PATH, json={"device_id": "truck-7", "issued_before": revoked.json()["issued_before"]}
    )
    assert again.json() == revoked.json()


async def test_one_token_is_refused_by_its_id_and_no_ticket_is_made_for_it(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    lost, kept = api.client(token_with_id("t-lost")), api.client(token_with_id("t-kept"))
    body = {"device_id": "truck-7", "token_id": "t-lost", "reason": "phone lost", "expires_at": "2030-01-01T00:00:00Z"}
    made = await api.operator.post(PATH, json=body)
    assert (made.status_code, made.json()["reason"]) == (201, "phone lost")
    # A token that another issuer has given the same id is another token.
    assert (await api.client(token_with_id("t-lost", "olga", "operator")).get(PATH)).status_code == 200
    again = await api.operator.post(PATH, json=body)
    assert (again.status_code, again.json()) == (200, made.json())
    for path in (EVENTS, "/api/v1/devices/truck-7/connection", "/api/v1/devices/truck-7/responses"):
        assert problem(await lost.get(path), 401, "unauthorized")["reason"] == "revoked"
    assert (await kept.get(EVENTS)).status_code == 200


async def test_a_token_that_is_no_devices_is_revoked_by_its_subject(api: RunningApi) -> None:
    olga = api.client(token_with_id("t-olga", "olga", "operator"))
    assert (await olga.get(PATH)).status_code == 200
    revoked = await api.operator.post(PATH, json={"subject": "olga", "token_id": "t-olga"})
    assert revoked.status_code == 201
    problem(await olga.get(PATH), 401, "unauthorized")


async def test_a_long_poll_gives_nothing_to_a_token_that_was_revoked_while_it_waited(
    api: RunningApi, pool: Pool
) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    waiting = asyncio.create_task(api.device("truck-7").get(EVENTS, params={"wait": 20}))
    await until_waiting(api)
    await api.operator.post(PATH, json={"device_id": "truck-7"})
    await record(pool, "truck-7", "a")
    assert problem(await waiting, 401, "unauthorized")["reason"] == "revoked"


async def test_the_list_pages_and_filters(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    operator = api.operator
    for number in range(3):
        await operator.post(PATH, json={"subject": "ops", "token_id": f"t{number}"})
    await operator.post(PATH, json={"device_id": "truck-7"})
    first = (await operator.get(PATH, params={"limit": 3})).json()
    assert [one["token_id"] for one in first["revocations"]] == [None, "t2", "t1"]
    second = (await operator.get(PATH, params={"limit": 3, "cursor": first["next"]})).json()
    assert [one["token_id"] for one in second["revocations"]] == ["t0"]
    assert second["next"] is None
    only = (await operator.get(PATH, params={"device_id": "truck-7"})).json()["revocations"]
    assert [one["device_id"] for one in only] == ["truck-7"]
    for cursor in ("x", "AAAA", "é", "W10=", "A" * 600):
        answer = await operator.get(PATH, params={"cursor": cursor})
        assert problem(answer, 400, "invalid-parameter")["field"] == "cursor"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "device_id"), ({"device_id": "A"}, "device_id"), ({"device_id": "a", "subject": "b"}, "device_id"),
        ({"subject": "ops"}, "token_id"), ({"subject": "", "token_id": "t"}, "subject"),
        ({"device_id": "a", "token_id": ""}, "token_id"), ({"device_id": "a", "token_id": "\x00"}, "token_id"),
        ({"device_id": "a", "token_id": "x" * 129}, "token_id"),
        ({"device_id": "a", "expires_at": "2030-01-01T00:00:00Z"}, "expires_at"),
        ({"device_id": "a", "token_id": "t", "expires_at": "2030-01-01T00:00:00"}, "expires_at"),
        ({"device_id": "a", "token_id": "t", "expires_at": "9999-01-01T00:00:00Z"}, "expires_at"),
        ({"device_id": "a", "token_id": "t", "expires_at": "soon"}, "expires_at"),
        ({"device_id": "a", "token_id": "t", "issued_before": "2026-01-01T00:00:00Z"}, "issued_before"),
        ({"device_id": "a", "token_id": "t", "reason": "x" * 201}, "reason"),
        ({"device_id": "a", "until": 7}, "until"),
    ],
)  # fmt: skip
async def test_what_cannot_be_revoked_is_refused_by_name(api: RunningApi, body: dict[str, Any], field: str) -> None:
    assert problem(await api.operator.post(PATH, json=body), 400, "invalid-body")["field"] == field


async def test_a_device_that_does_not_exist_has_no_tokens_to_revoke(api: RunningApi) -> None:
    problem(await api.operator.post(PATH, json={"device_id": "nobody"}), 404, "not-found")


async def test_revoking_is_the_operators_business(api: RunningApi) -> None:
    for scope in ("device", "service"):
        client = api.client(token("truck-7", scope))
        problem(await client.post(PATH, json={"device_id": "truck-7"}), 403, "forbidden")
        problem(await client.get(PATH), 403, "forbidden")


async def test_requests_with_one_token_ask_together(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    device = api.device("truck-7")
    answers = await asyncio.gather(*(device.get(EVENTS) for _ in range(30)))
    assert {answer.status_code for answer in answers} == {200}
