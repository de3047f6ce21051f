"""Asks a node of Redis, on a connection of its own, whether it serves subscribers at all.

That a server greets is not enough to call a hub deaf: one that is loading, demoted or cut off from its cluster greets
everybody and refuses everybody. That is no hub's own fault.
"""

import asyncio
import os
from typing import Any

import hiredis

from shared.bus import resp
from shared.bus.client import Endpoint
from shared.bus.message import CANARY, Message

__all__ = ["serves"]


async def serves(endpoint: Endpoint, channel: bytes, *, deadline_s: float) -> bool:
    """Whether it answers within `deadline_s` and refuses neither. Never raises.

    One that greets and then says nothing counts as serving: a way on which only subscribers fall silent is ours.
    """
    said: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

    def finish(serves: bool) -> None:
        if not said.done():
            said.set_result(serves)

    def on_reply(reply: Any) -> None:
        # A confirmed subscription is no reply: the first one is to the message, or an error to either.
        finish(not isinstance(reply, hiredis.ReplyError))

    try:
        connection = await resp.connect(
            endpoint,
            deadline_s=deadline_s,
            name="probe",
            on_reply=on_reply,
            on_lost=lambda: finish(False),
            primary=True,
        )
    except (OSError, resp.RedisRefused):
        return False
    message = Message(CANARY, "probe", 0, 0, os.urandom(8)).encode()
    try:
        connection.write(resp.pack(("SSUBSCRIBE", channel)) + resp.pack(("SPUBLISH", channel, message)))
        async with asyncio.timeout(deadline_s / 2):
            return await said
    except TimeoutError:
        return True
    finally:
        connection.abort()
