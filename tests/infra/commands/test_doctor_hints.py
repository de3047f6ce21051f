import pytest

from infra.commands.doctor_hints import look_at_hints
from loadtests.ports import free_port
from loadtests.rabbit_server import RabbitServer

pytestmark = pytest.mark.timeout(300)


async def test_nothing_is_said_where_redis_carries_hints_beside_everything_else() -> None:
    assert await look_at_hints(None) == []


async def test_a_server_of_hints_that_answers_is_good(redis_url: str, rabbit: RabbitServer) -> None:
    ((verdict, what, _),) = await look_at_hints(redis_url)
    assert (verdict, "Redis" in what) == ("good", True)
    ((verdict, what, _),) = await look_at_hints(rabbit.url)
    assert verdict == "good"
    assert f"127.0.0.1:{rabbit.port}" in what
    assert "requests 0 waiting" in what
    assert "p@ss" not in what
    assert "p%40ss" not in what


@pytest.mark.parametrize(
    "url",
    [
        "redis://:hidden@127.0.0.1:{}/0",
        "amqp://u:hidden@127.0.0.1:{}",
        "http://u:hidden@a:{}",
        "amqp://u:hidden@a/b/{}",
    ],
)
async def test_one_that_is_away_or_named_wrongly_is_bad_and_no_password_is_shown(url: str) -> None:
    ((verdict, what, mend),) = await look_at_hints(url.format(free_port()))
    assert verdict == "bad"
    assert mend
    assert "hidden" not in what
