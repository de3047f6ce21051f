from collections.abc import AsyncIterator

import pytest

from loadtests.ports import free_port
from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.store_client import ANSWER_MAX_BYTES, Answer, StoreClient
from tests.shared.cloud.answers import answering, plain


@pytest.fixture
async def client() -> AsyncIterator[StoreClient]:
    made = StoreClient(deadline_s=5)
    yield made
    await made.close()


async def test_an_answer_is_given_whatever_it_says(client: StoreClient) -> None:
    for status in (200, 404, 500):
        async with answering(plain(status, "X-A: b")) as url:
            answer = await client.ask("S3", "GET", url)
        assert (answer.status, answer.headers["x-a"], answer.body) == (status, "b", b"")


async def test_no_redirect_is_followed(client: StoreClient) -> None:
    async with answering(plain(302, "Location: http://127.0.0.1:1/")) as url:
        assert (await client.ask("S3", "GET", url)).status == 302


async def test_an_answer_without_end_is_cut_off(client: StoreClient) -> None:
    endless = b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n" + b"x" * (ANSWER_MAX_BYTES + 1)
    async with answering(endless) as url:
        with pytest.raises(StoreUnavailable, match="too many bytes"):
            await client.ask("S3", "GET", url)


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nx"])
async def test_what_is_no_answer_in_time_is_unavailable_and_no_address_is_told(answer: bytes) -> None:
    client = StoreClient(deadline_s=0.2)
    async with answering(answer) as url:
        with pytest.raises(StoreUnavailable) as caught:
            await client.ask("S3", "GET", f"{url}/?signature=secret")
    assert "secret" not in str(caught.value)
    with pytest.raises(StoreUnavailable):
        await client.ask("S3", "GET", f"http://127.0.0.1:{free_port()}/")
    await client.close()


def test_a_refusal_is_our_mistake_and_the_rest_passes() -> None:
    for status, kind in ((403, Misconfigured), (401, Misconfigured), (429, StoreUnavailable), (503, StoreUnavailable)):
        assert type(Answer(status, None, b"").failure("S3")) is kind  # type: ignore[arg-type]
