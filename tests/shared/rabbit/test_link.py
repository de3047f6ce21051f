"""What a link does when its broker says nothing any more."""

import asyncio
from random import Random
from typing import Any

import aio_pika
import pytest

from shared.rabbit import link
from shared.rabbit.address import RabbitAddress


class Silent:
    """A connection to a broker that stands still after the greeting."""

    async def channel(self, **_: Any) -> Any:
        raise aio_pika.exceptions.AMQPError("no channel")

    async def close(self) -> None:
        await asyncio.Event().wait()


async def test_a_connection_that_cannot_be_closed_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def connect(*_: Any, **__: Any) -> Silent:
        return Silent()

    monkeypatch.setattr(aio_pika, "connect", connect)
    monkeypatch.setattr(link, "_CLOSE_S", 0.01)
    address = RabbitAddress.from_url("amqp://127.0.0.1:5672")
    async with asyncio.timeout(10):
        with pytest.raises(ConnectionError, match="no channel"):
            await link.open_link(address, name="test", deadline_s=5, rand=Random(1))
