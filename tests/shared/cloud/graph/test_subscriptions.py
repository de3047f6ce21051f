"""Subscriptions: the handshake, calls with the secret, renewal, and what a hook that misbehaves does to them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from loadtests.emulators.faults import Fault
from loadtests.emulators.graph import GraphEmulator
from loadtests.emulators.serving import serving
from shared import clock
from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.graph.subscriptions import LIFETIME_MAX_S
from tests.shared.cloud.graph.tenant import Tenant

SECRET = "graph:sharepoint~" + "ab" * 16


class Hook:
    """An address of ours."""

    def __init__(self) -> None:
        self.url = ""
        self.came: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.handshakes = 0
        self.answers: list[int] = []
        self.shakes_hands = True

    async def handle(self, request: Request) -> Response:
        if (token := request.query_params.get("validationToken")) is not None:
            self.handshakes += 1
            return PlainTextResponse(token if self.shakes_hands else "no")
        if self.answers:
            return Response(status_code=self.answers.pop(0))
        for note in (await request.json())["value"]:
            await self.came.put(note)
        return Response(status_code=202)

    async def next(self) -> dict[str, Any]:
        async with asyncio.timeout(20):
            return await self.came.get()


@pytest.fixture
async def hook() -> AsyncIterator[Hook]:
    made = Hook()
    async with serving(Starlette(routes=[Route("/hooks", made.handle, methods=["POST"])])) as url:
        made.url = f"{url}/hooks"
        yield made


async def test_a_change_is_told_with_the_secret_and_says_nothing_of_itself(
    provider: GraphProvider, graph: GraphEmulator, hook: Hook
) -> None:
    made = await provider.subscribe(hook.url, SECRET, lifetime_s=3600)
    assert hook.handshakes == 1
    assert made.expires_at == pytest.approx(clock.wall() + 3600, abs=60)
    await provider.put_new("Requests/truck-7/a", b"a")
    note = await hook.next()
    assert (note["subscriptionId"], note["clientState"]) == (made.subscription_id, SECRET)
    assert "a" not in note["resourceData"].values()
    await provider.unsubscribe(made)
    await provider.unsubscribe(made)
    assert not graph.subscriptions.open


async def test_a_hook_that_fails_is_called_again_and_two_feeds_may_share_a_call(
    tenant: Tenant, graph: GraphEmulator, hook: Hook
) -> None:
    provider = tenant.provider()
    made = {(await provider.subscribe(hook.url, SECRET, lifetime_s=3600)).subscription_id for _ in range(2)}
    hook.answers = [500, 503]
    graph.write("a", b"a")
    assert {(await hook.next())["subscriptionId"], (await hook.next())["subscriptionId"]} == made


async def test_repeated_late_and_lost_calls_happen(provider: GraphProvider, graph: GraphEmulator, hook: Hook) -> None:
    await provider.subscribe(hook.url, SECRET, lifetime_s=3600)
    graph.subscriptions.manners.repeat = 1.0
    graph.write("a", b"a")
    assert await hook.next() == await hook.next()
    graph.subscriptions.manners.drop = 1.0
    graph.write("b", b"b")
    graph.subscriptions.manners.drop = graph.subscriptions.manners.repeat = 0.0
    graph.write("c", b"c")
    await hook.next()
    assert hook.came.empty()


async def test_renewing_keeps_the_id_and_one_that_is_gone_is_made_anew(
    provider: GraphProvider, graph: GraphEmulator, hook: Hook
) -> None:
    made = await provider.subscribe(hook.url, SECRET, lifetime_s=3600)
    graph.clock.advance(1800)
    renewed = await provider.renew(made, hook.url, SECRET, lifetime_s=7200)
    assert renewed.subscription_id == made.subscription_id
    assert renewed.expires_at > made.expires_at
    graph.clock.advance(7200)
    another = await provider.renew(renewed, hook.url, SECRET, lifetime_s=20_000)
    assert another.subscription_id != made.subscription_id
    assert hook.handshakes == 2


async def test_a_longer_life_than_graph_gives_is_cut(provider: GraphProvider, hook: Hook) -> None:
    made = await provider.subscribe(hook.url, SECRET, lifetime_s=1e9)
    assert made.expires_at < clock.wall() + LIFETIME_MAX_S


async def test_an_address_that_does_not_shake_hands_is_said(provider: GraphProvider, hook: Hook) -> None:
    hook.shakes_hands = False
    with pytest.raises(Misconfigured, match="ValidationError"):
        await provider.subscribe(hook.url, SECRET, lifetime_s=3600)


async def test_a_subscription_whose_answer_was_lost_is_not_made_twice_in_silence(
    provider: GraphProvider, graph: GraphEmulator, hook: Hook
) -> None:
    graph.script.add(Fault("subscription.create", "lose_answer"))
    with pytest.raises(StoreUnavailable):
        await provider.subscribe(hook.url, SECRET, lifetime_s=3600)
    assert graph.calls["subscription.create"] == 1


async def test_lifecycle_events_come_to_the_same_address(
    provider: GraphProvider, graph: GraphEmulator, hook: Hook
) -> None:
    made = await provider.subscribe(hook.url, SECRET, lifetime_s=3600)
    graph.subscriptions.lifecycle(made.subscription_id, "reauthorizationRequired")
    note = await hook.next()
    assert (note["lifecycleEvent"], note["clientState"]) == ("reauthorizationRequired", SECRET)
