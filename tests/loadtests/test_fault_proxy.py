"""Each way of failing, as a client of it sees it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from loadtests.fault_proxy import FaultProxy, Way
from loadtests.link_faults import Fault, Heading, What
from loadtests.slow_link import SlowLink

REQUEST = b"GET /v1/socket HTTP/1.1\r\nHost: hub\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-Kept: 1\r\n\r\n"


class Server:
    """Answers a line with that line; a request with what it got."""

    def __init__(self) -> None:
        self.url = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"ws://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                writer.write(line)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    made = Server()
    await made.start()
    yield made
    await made.stop()


async def exchange(port: int, data: bytes, *, wait_s: float = 2.0) -> bytes:
    """Send, say that this was all, and read to the end."""
    async with asyncio.timeout(wait_s):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(data)
            writer.write_eof()
            return await reader.read()
        finally:
            writer.transport.abort()


async def test_bytes_and_the_end_of_them_pass_both_ways(server: Server) -> None:
    for link in (None, SlowLink(bytes_per_s=1e6), SlowLink(delay_s=0.01)):
        async with FaultProxy(server.url, link=link) as proxy:
            sent = b"".join(b"%d\n" % number for number in range(5000))
            assert await exchange(proxy.port, sent) == sent


async def test_refused_is_refused_and_the_port_stays(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        port = proxy.port
        await proxy.become(Way.REFUSE)
        with pytest.raises(ConnectionRefusedError):
            await exchange(port, b"a\n")
        await proxy.become(Way.FORWARD)
        assert proxy.port == port
        assert await exchange(port, b"a\n") == b"a\n"


async def test_a_swallowed_syn_is_never_answered_until_the_way_is_open(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        await proxy.become(Way.SWALLOW)
        with pytest.raises(TimeoutError):
            await exchange(proxy.port, b"a\n", wait_s=0.5)
        assert proxy.accepted == 0
        await proxy.become(Way.FORWARD)
        assert await exchange(proxy.port, b"a\n") == b"a\n"


async def test_silent_accepts_and_says_nothing(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        await proxy.become(Way.SILENT)
        with pytest.raises(TimeoutError):
            await exchange(proxy.port, b"a\n", wait_s=0.3)
        assert proxy.accepted == proxy.open == 1


@pytest.mark.parametrize(("way", "status"), [(Way.ANSWER_200, 200), (Way.ANSWER_400, 400), (Way.ANSWER_502, 502)])
async def test_a_box_answers_in_the_servers_place(server: Server, way: Way, status: int) -> None:
    async with FaultProxy(server.url) as proxy:
        await proxy.become(way)
        answer = await exchange(proxy.port, REQUEST)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"text/html" in answer


@pytest.mark.parametrize("way", [Way.STRIP, Way.STRIP_CONNECTION, Way.STRIP_OLD])
async def test_what_is_stripped_does_not_reach_the_server_and_the_rest_does(server: Server, way: Way) -> None:
    async with FaultProxy(server.url) as proxy:
        await proxy.become(way)
        seen = await exchange(proxy.port, REQUEST)
        assert (b"Upgrade: websocket" in seen) is (way is Way.STRIP_CONNECTION)
        assert b"Connection: Upgrade" not in seen
        assert b"X-Kept: 1\r\n" in seen
        assert seen.startswith(b"GET /v1/socket HTTP/1.0" if way is Way.STRIP_OLD else b"GET /v1/socket HTTP/1.1")


async def test_a_connection_is_cut_by_order_or_after_so_many_bytes(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a\n")
        assert await reader.readline() == b"a\n"
        await proxy.cut()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        writer.close()

        proxy.cut_after = 1000
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"x" * 3000 + b"\n")
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1001)
        writer.close()
    assert proxy.open == 0


async def test_what_the_server_says_is_tapped_before_it_is_held_back(server: Server) -> None:
    class Seen:
        down = 0
        up = 0

        def from_server(self, data: bytes) -> None:
            self.down += len(data)

        def to_server(self, data: bytes) -> None:
            self.up += len(data)

    tap = Seen()
    async with FaultProxy(server.url, link=SlowLink(delay_s=0.05), taps=lambda: tap) as proxy:
        assert await exchange(proxy.port, b"hello\n") == b"hello\n"
    assert (tap.down, tap.up) == (6, 6)


@pytest.mark.parametrize("link", [None, SlowLink(delay_s=0.005)])
async def test_a_fault_strikes_behind_its_very_byte(server: Server, link: SlowLink | None) -> None:
    sent = b"x\n" * 40_000
    async with FaultProxy(server.url, link=link) as proxy:
        proxy.script = lambda number: Fault(What.CUT, after=65_537) if number == 1 else None
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(sent)
        async with asyncio.timeout(5):
            assert await reader.readexactly(65_537) == sent[:65_537]
            with pytest.raises(ConnectionResetError):
                await reader.read()
        writer.close()
        assert await exchange(proxy.port, sent) == sent, "the next connection fares well"


async def test_an_upload_is_cut_before_the_server_has_it(server: Server) -> None:
    class Answered:
        size = 0

        def from_server(self, data: bytes) -> None:
            self.size += len(data)

        def to_server(self, data: bytes) -> None:
            pass

    answered = Answered()
    async with FaultProxy(server.url, taps=lambda: answered) as proxy:
        proxy.script = lambda _: Fault(What.CUT, after=5, heading=Heading.UP)
        with pytest.raises(ConnectionResetError):
            await exchange(proxy.port, b"hello\n")
    assert answered.size == 0, "the line's end never came"


async def test_in_a_black_hole_nothing_comes_and_nobody_is_told(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        proxy.script = lambda _: Fault(What.BLACK_HOLE, after=4)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a\nb\nc\n")
        assert await reader.readexactly(4) == b"a\nb\n"
        writer.write(b"d\n")
        writer.write_eof()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read(1)
        assert proxy.open == 1
        writer.transport.abort()
        await proxy.cut()
        assert proxy.open == 0


@pytest.mark.parametrize("heading", Heading)
async def test_half_closed_one_way_ends_and_the_other_goes_on(server: Server, heading: Heading) -> None:
    async with FaultProxy(server.url) as proxy:
        proxy.script = lambda _: Fault(What.HALF_CLOSE, after=2, heading=heading)
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"a\nlost\n")
        async with asyncio.timeout(5):
            # Downward: the answer ends after two bytes. Upward: the server sees the end after two, and answers those.
            assert await reader.read() == b"a\n"
        writer.transport.abort()


async def test_held_up_everything_comes_later(server: Server) -> None:
    async with FaultProxy(server.url) as proxy:
        proxy.script = lambda _: Fault(What.HOLD, after=2, heading=Heading.UP, hold_s=0.4)
        started = asyncio.get_running_loop().time()
        assert await exchange(proxy.port, b"a\nb\n", wait_s=10) == b"a\nb\n"
        assert asyncio.get_running_loop().time() - started >= 0.4
