"""A rolling restart of the API, small, and the balancer that it stands behind."""

import asyncio

import httpx
import pytest
import uvloop

from loadtests.api_rolling import roll
from loadtests.balancer import Balancer
from loadtests.stand import running_stand


def unsaid(text: str) -> None:
    del text


@pytest.mark.processes
def test_a_rolling_restart_under_load_fails_no_request() -> None:
    with running_stand(durable=False) as stand:
        result = uvloop.run(
            roll(
                stand,
                instances=2,
                rounds=1,
                clients=4,
                steady_s=0.5,
                say=unsaid,
                FLEETWIRE_API_DRAIN_S="0.8",
                FLEETWIRE_DB_POOL_MAX="4",
            )
        )
    assert result["passed"], result
    assert result["requests"] > 20  # however slow the machine is
    assert all(result["connections_taken"])


async def answering(status: str) -> tuple[asyncio.Server, int]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        port = writer.get_extra_info("sockname")[1]
        body = str(port).encode()
        writer.write(
            b"HTTP/1.1 %b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status.encode(), len(body), body)
        )
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


async def test_the_balancer_takes_turns_among_those_that_are_ready() -> None:
    one, one_port = await answering("200 OK")
    two, two_port = await answering("200 OK")
    sick, sick_port = await answering("503 Service Unavailable")
    async with Balancer([one_port, two_port, sick_port], period_s=0.01) as balancer, httpx.AsyncClient() as client:
        for port in (one_port, two_port):
            await balancer.until(port, ready=True)
        answers = [(await client.get(balancer.url)).text for _ in range(4)]
        assert sorted(answers) == sorted([str(one_port), str(two_port)] * 2)
        two.close()
        await balancer.until(two_port, ready=False)
        assert [(await client.get(balancer.url)).text for _ in range(2)] == [str(one_port)] * 2
        one.close()
        await balancer.until(one_port, ready=False)
        with pytest.raises(httpx.TransportError):
            await client.get(balancer.url)
        assert balancer.turned_away == 1
    sick.close()
