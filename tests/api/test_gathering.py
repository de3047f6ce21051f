import asyncio
from collections.abc import Mapping, Sequence

import pytest

from api.gathering import Gathering
from shared.store.errors import StoreUnavailable

Request = tuple[str, int]


class Database:
    """Answers in its own time and remembers what was asked together."""

    def __init__(self) -> None:
        self.statements: list[list[Request]] = []
        self.fails: Exception | None = None
        self.go_on = asyncio.Event()

    async def run(self, requests: Sequence[Request]) -> Mapping[str, int]:
        self.statements.append(list(requests))
        await self.go_on.wait()
        if self.fails:
            raise self.fails
        return {device_id: number * 10 for device_id, number in requests if device_id != "nobody"}


@pytest.fixture
def database() -> Database:
    return Database()


def ask(gathering: Gathering[Request, int], device_id: str, number: int = 1) -> "asyncio.Task[int | None]":
    return asyncio.create_task(gathering.ask(device_id, (device_id, number)))


async def turn() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_one_alone_goes_at_once_and_those_who_come_meanwhile_go_together(database: Database) -> None:
    gathering = Gathering(database.run, batch_max=10, at_once=1)
    asked = [ask(gathering, "a")]
    await turn()
    asked += [ask(gathering, name, number) for number, name in enumerate(("b", "c", "b", "nobody"), 2)]
    await turn()
    assert database.statements == [[("a", 1)]]
    database.go_on.set()
    assert [await one for one in asked] == [10, 20, 30, 40, None]
    assert database.statements[1:] == [[("b", 2), ("c", 3), ("nobody", 5)], [("b", 4)]]
    assert repr(gathering) == "Gathering(0 waiting, 0 running)"


async def test_no_statement_is_larger_than_the_bound_and_no_more_run_at_once(database: Database) -> None:
    gathering = Gathering(database.run, batch_max=3, at_once=2)
    asked = [ask(gathering, f"d{number}", number) for number in range(10)]
    await turn()
    assert len(database.statements) == 2
    database.go_on.set()
    assert [await one for one in asked] == [number * 10 for number in range(10)]
    assert max(len(statement) for statement in database.statements) <= 3


async def test_an_error_goes_to_those_who_asked_and_the_next_are_answered(database: Database) -> None:
    gathering = Gathering(database.run, batch_max=10, at_once=1)
    database.fails = StoreUnavailable("away")
    database.go_on.set()
    asked = [ask(gathering, "a"), ask(gathering, "b")]
    for one in asked:
        with pytest.raises(StoreUnavailable):
            await one
    database.fails = None
    assert await ask(gathering, "a") == 10


async def test_one_who_gave_up_is_not_asked_for_and_stops_nobody(database: Database) -> None:
    gathering = Gathering(database.run, batch_max=10, at_once=1)
    first, given_up, last = ask(gathering, "a"), ask(gathering, "b"), ask(gathering, "c")
    await turn()
    given_up.cancel()
    await turn()
    database.go_on.set()
    assert (await first, await last) == (10, 10)
    assert [device_id for statement in database.statements for device_id, _ in statement] in (
        ["a", "c"],
        ["a", "b", "c"],
    )


async def test_a_request_that_comes_as_the_last_one_ends_is_not_forgotten(database: Database) -> None:
    gathering = Gathering(database.run, batch_max=1, at_once=1)
    database.go_on.set()
    for _ in range(50):
        async with asyncio.timeout(5):
            assert await gathering.ask("a", ("a", 1)) == 10
