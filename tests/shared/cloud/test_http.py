"""The client against a server that says, connection by connection, what it was told to say."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from random import Random

import httpx
import pytest

from loadtests.ports import free_port
from shared.cloud.errors import Misconfigured, RateLimited, StoreUnavailable
from shared.cloud.http import ERROR_MAX_BYTES, Answer, HttpClient, Request
from shared.cloud.retrying import ONCE, RetryPolicy
from shared.telemetry.metrics import REGISTRY

OK = b"HTTP/1.1 200 x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    head = [f"HTTP/1.1 {code} x", f"Content-Length: {len(body)}", "Connection: close", *headers, "", ""]
    return "\r\n".join(head).encode() + body


class Server:
    """Gives the answers in order, one for each connection; the last again and again. b"" cuts the connection."""

    def __init__(self, answers: Sequence[bytes]) -> None:
        self.answers = list(answers)
        self.requests: list[bytes] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            body = await reader.readexactly(int(length.split(b":")[1]))
            self.requests.append(head + body)
            writer.write(self.answers[min(len(self.requests), len(self.answers)) - 1])
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def serving(*answers: bytes) -> AsyncIterator[Server]:
    made = Server(answers)
    async with await asyncio.start_server(made.serve, "127.0.0.1", 0) as server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


class Waits:
    """Sleeps that take no time and are remembered."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def time(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.fixture
async def client(waits: Waits) -> AsyncIterator[HttpClient]:
    made = HttpClient(deadline_s=20, policy=RetryPolicy(tries=3), rand=Random(1), time=waits.time, sleep=waits.sleep)
    yield made
    await made.close()


def asking(server: Server, method: str = "GET", **more: object) -> Request:
    return Request(store="s3", call="look", method=method, url=f"{server.url}/a?signature=secret", **more)  # type: ignore[arg-type]


async def test_an_answer_is_given_whatever_its_status_and_no_redirect_is_followed(client: HttpClient) -> None:
    for code in (200, 302, 308, 404, 412):
        async with serving(status(code, "X-A: b", body=b"why")) as server:
            answer = await client.ask(asking(server))
        assert (answer.status, answer.headers["x-a"], answer.body) == (code, "b", b"why")
        assert len(server.requests) == 1


async def test_what_fails_or_breaks_is_asked_again_until_it_works(client: HttpClient, waits: Waits) -> None:
    async with serving(status(503), b"", OK) as server:
        assert (await client.ask(asking(server))).body == b"ok"
    assert len(server.requests) == 3
    assert len(waits.slept) == 2


async def test_tries_end_and_the_last_answer_or_the_lack_of_one_is_told(client: HttpClient) -> None:
    async with serving(status(500)) as server:
        assert (await client.ask(asking(server))).status == 500
        assert len(server.requests) == 3
    async with serving(b"") as server:
        with pytest.raises(StoreUnavailable, match="s3 did not answer") as caught:
            await client.ask(asking(server))
    assert "secret" not in str(caught.value)


async def test_what_may_have_taken_effect_is_not_sent_twice(client: HttpClient) -> None:
    for answer in (status(503), b""):
        async with serving(answer, OK) as server:
            try:
                assert (await client.ask(asking(server, "POST", body=b"x"))).status == 503
            except StoreUnavailable:
                assert answer == b""
            assert len(server.requests) == 1
    async with serving(status(503), OK) as server:
        assert (await client.ask(asking(server, "POST", body=b"x", repeatable=True))).status == 200


async def test_what_was_turned_away_comes_back_when_it_was_told_to(client: HttpClient, waits: Waits) -> None:
    async with serving(status(429, "Retry-After: 7"), OK) as server:
        assert (await client.ask(asking(server, "POST", body=b"x"))).status == 200
    assert len(waits.slept) == 1
    assert 7 <= waits.slept[0] <= 8
    async with serving(status(429, "Retry-After: 700")) as server:
        answer = await client.ask(asking(server))
    assert (answer.status, answer.retry_after_s, len(server.requests)) == (429, 700, 1)


async def test_a_provider_that_says_too_much_in_its_own_words_is_understood(client: HttpClient) -> None:
    def says_so(answer: Answer) -> bool:
        return answer.status == 403 and b"rateLimitExceeded" in answer.body

    async with serving(status(403, body=b"rateLimitExceeded"), status(403, body=b"no")) as server:
        answer = await client.ask(asking(server, "POST", body=b"x", is_limit=says_so))
    assert (answer.body, len(server.requests)) == (b"no", 2)


async def test_every_try_is_signed_anew(client: HttpClient) -> None:
    turn = iter(range(9))

    async def sign() -> Mapping[str, str]:
        return {"Authorization": f"token {next(turn)}"}

    async with serving(status(503), OK) as server:
        await client.ask(asking(server, sign=sign))
    assert [b"token 0" in server.requests[0], b"token 1" in server.requests[1]] == [True, True]


async def test_a_large_body_arrives_whole_with_its_length_each_time_it_is_sent(client: HttpClient) -> None:
    body = bytes(range(256)) * 4096
    async with serving(status(503), OK) as server:
        await client.ask(asking(server, "PUT", body=body))
    assert len(server.requests) == 2
    for request in server.requests:
        assert request.endswith(body)
        assert b"content-length: 1048576" in request.lower()
        assert b"transfer-encoding" not in request.lower()


class OneGate:
    """Admits what it is told to, and remembers what it heard."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses = refuses
        self.admitted: list[float] = []
        self.said: list[tuple[int, float | None]] = []

    async def admit(self, cost: float) -> None:
        if self.refuses:
            raise RateLimited(retry_after_s=3)
        self.admitted.append(cost)

    async def heard(self, status: int, headers: Mapping[str, str], retry_after_s: float | None) -> None:
        self.said.append((status, retry_after_s))


async def test_every_try_passes_the_gate_and_every_answer_is_told_to_it(client: HttpClient) -> None:
    gate = OneGate()
    async with serving(status(429, "Retry-After: 2"), OK) as server:
        await client.ask(asking(server, gate=gate, cost=2))
    assert gate.admitted == [2, 2]
    assert gate.said == [(429, 2.0), (200, None)]


async def test_a_closed_gate_lets_nothing_out(client: HttpClient) -> None:
    async with serving(OK) as server:
        with pytest.raises(RateLimited):
            await client.ask(asking(server, gate=OneGate(refuses=True)))
    assert server.requests == []


async def test_a_streamed_answer_is_read_as_it_comes_and_an_error_is_whole(client: HttpClient) -> None:
    body = b"x" * 1_000_000
    async with serving(status(503), status(200, body=body)) as server:
        async with client.stream(asking(server)) as streamed:
            pieces = [piece async for piece in streamed.chunks()]
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= 256 * 1024
    async with serving(status(404, body=b"why")) as server:
        async with client.stream(asking(server)) as streamed:
            assert (streamed.answer.status, streamed.answer.body) == (404, b"why")
            assert [piece async for piece in streamed.chunks()] == [b"why"]


async def test_a_streamed_answer_that_stops_early_is_no_whole_one(client: HttpClient) -> None:
    async with serving(b"HTTP/1.1 200 x\r\nContent-Length: 9\r\nConnection: close\r\n\r\nhalf") as server:
        async with client.stream(asking(server)) as streamed:
            with pytest.raises(StoreUnavailable, match="broke off"):
                assert [piece async for piece in streamed.chunks()] == []


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_an_answer_without_end_is_cut_off(client: HttpClient, is_streamed: bool) -> None:
    endless = b"HTTP/1.1 400 x\r\nConnection: close\r\n\r\n" + b"x" * (ERROR_MAX_BYTES + 1)
    async with serving(endless) as server:
        asked = client.stream(asking(server)).__aenter__() if is_streamed else client.ask(asking(server), answer_max=9)
        with pytest.raises(StoreUnavailable, match="too many bytes"):
            await asked


async def test_every_wait_has_an_end() -> None:
    client = HttpClient(deadline_s=0.2, stall_s=0.2, policy=ONCE)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            if asked.pop() == "begins":
                writer.write(b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\nhalf")
            await reader.read()
        finally:
            writer.close()
            await writer.wait_closed()
            ended.release()

    asked = ["begins", "is silent", "is silent"]
    ended = asyncio.Semaphore(0)
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        request = Request(
            store="s3", call="look", method="GET", url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        )
        with pytest.raises(StoreUnavailable):
            await client.ask(request)
        with pytest.raises(StoreUnavailable):
            async with client.stream(request):
                pass
        async with client.stream(request) as streamed:
            with pytest.raises(StoreUnavailable):
                assert [piece async for piece in streamed.chunks()] == []
        await client.close()
        for _ in range(3):
            await ended.acquire()


async def test_what_cannot_be_reached_or_is_no_address_is_told_without_it(client: HttpClient, waits: Waits) -> None:
    request = Request(store="drive", call="list", method="POST", url=f"http://127.0.0.1:{free_port()}/secret")
    with pytest.raises(StoreUnavailable) as caught:
        await client.ask(request)
    assert "secret" not in str(caught.value)
    assert len(waits.slept) == 2, "nothing was sent, so trying again is safe for anything"
    with pytest.raises(Misconfigured):
        await client.ask(Request(store="drive", call="list", method="GET", url="gopher://secret"))


async def test_requests_are_counted_by_what_became_of_them(client: HttpClient) -> None:
    def counted(outcome: str) -> float:
        labels = {"store": "counting", "call": "look", "outcome": outcome}
        return REGISTRY.get_sample_value("fleetwire_cloud_requests_total", labels) or 0.0

    async with serving(status(503), status(429), status(404)) as server:
        await client.ask(Request(store="counting", call="look", method="GET", url=server.url))
    assert [counted(outcome) for outcome in ("failed", "refused", "denied", "ok")] == [1, 1, 1, 0]


def pointing(to: str | None, *, of: str = "https://a.test/b/c") -> str | None:
    return Answer(302, httpx.Headers({} if to is None else {"location": to}), b"", of).location


def test_where_an_answer_points_is_an_address_no_weaker_than_the_one_asked() -> None:
    assert pointing("https://x.test/y?z=1") == "https://x.test/y?z=1"
    assert pointing("../d") == "https://a.test/d"
    assert pointing("http://x.test/", of="http://127.0.0.1:1/") == "http://x.test/"
    for bad in ("http://x.test/", "ftp://x.test/", "https://user:word@x.test/", "https://[", None):
        assert pointing(bad) is None


async def test_json_that_is_something_else_is_no_answer() -> None:
    for body in (b"", b"<html>", b'["a"]', b"\xff", b"[" * 100_000):
        with pytest.raises(StoreUnavailable, match="drive answered 200 with something else"):
            Answer(200, httpx.Headers(), body).decoded(dict[str, int], store="drive")
    assert Answer(200, httpx.Headers(), b'{"a": 1}').decoded(dict[str, int], store="drive") == {"a": 1}
