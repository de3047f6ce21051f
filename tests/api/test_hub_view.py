"""The live hubs: one question for all who ask meanwhile, and never an older answer than was promised."""

import asyncio
from collections.abc import Sequence

import pytest

from api.hub_view import HubView
from shared.store.errors import StoreUnavailable
from shared.store.hubs import HubRow


class Asked:
    """A pool whose answers are given by the test, one question after another."""

    def __init__(self) -> None:
        self.questions: list[asyncio.Future[list[HubRow]]] = []
        self.came = asyncio.Event()

    async def fetch(self, statement: str, *arguments: object) -> list[HubRow]:
        self.questions.append(asyncio.get_running_loop().create_future())
        self.came.set()
        return await self.questions[-1]

    async def question(self, number: int) -> "asyncio.Future[list[HubRow]]":
        async with asyncio.timeout(10):
            while len(self.questions) < number:
                self.came.clear()
                await self.came.wait()
        return self.questions[number - 1]


def row(name: str) -> HubRow:
    return HubRow(name, "run", f"ws://{name}", 0, 500, False)


def view_of(asked: Asked, max_age_s: float) -> HubView:
    return HubView(asked, max_age_s=max_age_s, silence_s=15.0)  # type: ignore[arg-type]


def names(rows: Sequence[HubRow]) -> list[str]:
    return [one.name for one in rows]


async def test_when_postgres_hangs_all_who_wait_share_one_question_and_its_failure() -> None:
    asked = Asked()
    view = view_of(asked, 0.0)
    waiting = [asyncio.create_task(view.live()) for _ in range(20)]
    (await asked.question(1)).set_exception(StoreUnavailable("no answer"))
    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
    assert len(asked.questions) == 1


async def test_a_question_that_began_before_one_asked_is_too_old_for_it_and_the_next_is_shared() -> None:
    asked = Asked()
    view = view_of(asked, 0.0)
    first = asyncio.create_task(view.live())
    question = await asked.question(1)
    later = [asyncio.create_task(view.live()) for _ in range(5)]
    await asyncio.sleep(0)
    question.set_result([row("hub-1")])
    (await asked.question(2)).set_result([row("hub-2")])
    async with asyncio.timeout(10):
        assert names(await first) == ["hub-1"]
        assert [names(await one) for one in later] == [["hub-2"]] * 5
    assert len(asked.questions) == 2


async def test_whoever_gives_up_takes_the_answer_from_nobody_and_a_fresh_one_is_kept() -> None:
    asked = Asked()
    view = view_of(asked, 60.0)
    first, second = asyncio.create_task(view.live()), asyncio.create_task(view.live())
    question = await asked.question(1)
    first.cancel()
    await asyncio.wait([first])
    question.set_result([row("hub-1")])
    async with asyncio.timeout(10):
        assert names(await second) == names(await view.live()) == ["hub-1"]
    assert len(asked.questions) == 1


async def test_after_a_failure_the_next_asks_again() -> None:
    asked = Asked()
    view = view_of(asked, 60.0)
    failing = asyncio.create_task(view.live())
    (await asked.question(1)).set_exception(StoreUnavailable("no answer"))
    with pytest.raises(StoreUnavailable):
        await failing
    again = asyncio.create_task(view.live())
    (await asked.question(2)).set_result([row("hub-1")])
    assert names(await again) == ["hub-1"]
