"""A provider's promise to call us: reserved, made, renewed, retired and ended, and only by who may."""

from collections.abc import AsyncIterator
from dataclasses import replace

import msgspec
import pytest

from loadtests.watching.model_drive import ModelDrive
from shared import clock
from shared.cloud.errors import StoreUnavailable
from shared.cloud.hook_secret import feed_of_secret
from shared.cloud.provider import Subscription
from shared.store import remote_feeds
from shared.store.pool import Pool
from tests.watcher.remote.conftest import Following
from tests.watcher.rig import until
from watcher.remote.subscription_plan import End, Renew, Reserve, Rest, Retire, Standing, ended, lost, made, plan

HERE = "https://here/api/v1/hooks/drive"
LIFE = 1000.0


def next_task(standing: Standing, now: float, *, address: str | None = HERE, doubted: bool = False) -> object:
    return plan(standing, now, address=address, lifetime_s=LIFE, doubted=doubted)


def standing(**fields: object) -> Standing:
    active = Subscription("s1", None, 2000.0)
    return replace(Standing(active=active, made_at=1000.0, address=HERE), **fields)  # type: ignore[arg-type]


def test_one_is_reserved_before_it_is_made() -> None:
    task = next_task(Standing(), 1000.0)
    assert task == Reserve(Standing(pending_at=1000.0))


def test_who_finds_that_one_is_being_made_waits_before_making_another() -> None:
    assert next_task(Standing(pending_at=1000.0), 1030.0) == Rest(1060.0)
    assert isinstance(next_task(Standing(pending_at=1000.0), 1061.0), Reserve)


def test_it_is_renewed_at_half_its_life_or_when_it_is_in_doubt() -> None:
    assert next_task(standing(), 1100.0) == Rest(1500.0)
    assert isinstance(next_task(standing(), 1500.0), Renew)
    assert isinstance(next_task(standing(), 1100.0, doubted=True), Renew)


def test_a_renewal_that_is_another_one_retires_the_first_and_then_ends_it() -> None:
    other = made(standing(), Subscription("s2", None, 2500.0), 1500.0, HERE)
    assert (other.active, [one.subscription_id for one in other.retired]) == (Subscription("s2", None, 2500.0), ["s1"])
    task = next_task(other, 1501.0)
    assert task == End(Subscription("s1", None, 2000.0))
    assert ended(other, other.retired[0]).retired == ()


def test_what_is_retired_keeps_nothing_from_being_renewed() -> None:
    assert isinstance(next_task(standing(retired=(Subscription("s0", None, 0.0),)), 1600.0), Renew)


def test_without_an_address_or_with_another_it_is_retired() -> None:
    for address in (None, "https://elsewhere"):
        task = next_task(standing(), 1100.0, address=address)
        assert isinstance(task, Retire)
        assert task.standing.active is None
        assert [one.subscription_id for one in task.standing.retired] == ["s1"]


def test_one_that_is_over_or_unknown_to_the_provider_is_made_anew() -> None:
    assert isinstance(next_task(standing(), 2001.0), Reserve)
    assert isinstance(next_task(lost(standing()), 1100.0), Reserve)


@pytest.fixture
async def subscribed(pool: Pool) -> AsyncIterator[Following]:
    drive = ModelDrive()
    drive.push = True
    made_here = Following(pool, drive, hooks_url=HERE)
    yield made_here
    await made_here.kill()


async def row(following: Following) -> Standing:
    body, _ = await remote_feeds.subscriptions(following.pool, following.feed_id)
    return msgspec.json.decode(body, type=Standing) if body else Standing()


async def test_a_feed_has_one_subscription_that_its_row_knows(subscribed: Following) -> None:
    await subscribed.begin()

    async def known() -> bool:
        return (await row(subscribed)).active is not None

    await until(known, "subscription in the row")
    assert list(subscribed.drive.subscriptions.values()) == [(await row(subscribed)).active]
    _, secret = await remote_feeds.subscriptions(subscribed.pool, subscribed.feed_id)
    assert secret is not None
    assert feed_of_secret(secret) == subscribed.feed_id


async def test_the_next_owner_goes_on_with_the_subscription_of_the_last(subscribed: Following) -> None:
    await subscribed.begin()

    async def known() -> bool:
        return (await row(subscribed)).active is not None

    await until(known, "subscription in the row")
    before = await row(subscribed)
    await subscribed.kill()
    await subscribed.begin("w2")
    await subscribed.settled()
    assert await row(subscribed) == before
    assert subscribed.drive.ended == []


async def test_one_in_doubt_is_replaced_and_only_then_ended(subscribed: Following) -> None:
    await subscribed.begin()

    async def known() -> bool:
        return (await row(subscribed)).active is not None

    await until(known, "subscription in the row")
    first = (await row(subscribed)).active
    assert first is not None
    assert subscribed.feed is not None
    subscribed.feed.on_hint(doubted=True)

    async def replaced() -> bool:
        now = await row(subscribed)
        return now.active != first and not now.retired

    await until(replaced, "another one, and the first ended")
    assert subscribed.drive.ended == [first.subscription_id]


async def test_a_provider_that_does_not_take_subscriptions_now_holds_up_no_feed(subscribed: Following) -> None:
    async def refuse(address: str, secret: str, *, lifetime_s: float) -> Subscription:
        raise StoreUnavailable("not now")

    subscribed.drive.subscribe = refuse  # type: ignore[method-assign]
    subscribed.drive.put("Requests/truck-1/a.csv")
    await subscribed.begin()
    await subscribed.settled()
    assert await subscribed.jobs() == ["Requests/truck-1/a.csv"]
    assert (await row(subscribed)).pending_at > clock.wall() - 60
    assert (await row(subscribed)).active is None
