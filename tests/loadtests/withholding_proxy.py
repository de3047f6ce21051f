"""Stands before a hub and keeps events from devices: what a load run must notice, whatever drives it."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from urllib.parse import parse_qs, urlsplit

from loadtests.driver.wire import TEXT, FrameReader

Withhold = Callable[[str, int], bool]

_EVENT = b'{"type":"event","seq":'


class WithholdingProxy:
    """On `port` while the block lasts. `withhold` is asked for each event: the device, its seq."""

    def __init__(self, hub_url: str, port: int, withhold: Withhold = lambda device_id, seq: False) -> None:
        parts = urlsplit(hub_url)
        self._target = (parts.hostname or "", parts.port or 80)
        self._port = port
        self._withhold = withhold
        self._tasks: set[asyncio.Task[None]] = set()
        self.withheld = 0

    async def __aenter__(self) -> "WithholdingProxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        hub_reader, hub_writer = await asyncio.open_connection(*self._target)
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            device_id = parse_qs(urlsplit(request.split(b" ")[1].decode()).query)["device_id"][0]
            hub_writer.write(request)
            writer.write(await hub_reader.readuntil(b"\r\n\r\n"))
            await asyncio.wait(
                [
                    asyncio.create_task(self._to_hub(reader, hub_writer)),
                    asyncio.create_task(self._to_device(device_id, hub_reader, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for one in (writer, hub_writer):
                one.close()
            for one in (writer, hub_writer):
                with suppress(OSError):
                    await one.wait_closed()
            self._tasks.discard(task)

    async def _to_hub(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def _to_device(self, device_id: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = FrameReader()
        with suppress(OSError):
            while data := await reader.read(65536):
                for opcode, payload in frames.feed(data):
                    if opcode == TEXT and payload.startswith(_EVENT):
                        seq = int(payload[len(_EVENT) : payload.index(b",", len(_EVENT))])
                        if self._withhold(device_id, seq):
                            self.withheld += 1
                            continue
                    writer.write(_frame(opcode, payload))
                await writer.drain()


def _frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    head = bytes((0x80 | opcode, length)) if length < 126 else bytes((0x80 | opcode, 126)) + length.to_bytes(2, "big")
    return head + payload
