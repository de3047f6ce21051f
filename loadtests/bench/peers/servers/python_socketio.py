"""python-socketio with its Redis manager on uvicorn: each device is in the room of its own name.

Runs in the throw-away environment, as a file: PORT as argument, PEER_REDIS_URL in the environment.
"""

import os
import sys
from typing import Any

import socketio
import uvicorn

server = socketio.AsyncServer(
    async_mode="asgi", client_manager=socketio.AsyncRedisManager(os.environ["PEER_REDIS_URL"]), cors_allowed_origins="*"
)
acks = 0


@server.event  # type: ignore[untyped-decorator]
async def connect(sid: str, environ: dict[str, Any], auth: dict[str, str]) -> None:
    """Enter the device's room."""
    await server.enter_room(sid, auth["device"])


@server.event  # type: ignore[untyped-decorator]
async def ack(sid: str, data: dict[str, int]) -> None:
    """Count it: there is nothing to record it in."""
    global acks
    acks += 1


if __name__ == "__main__":
    uvicorn.run(
        socketio.ASGIApp(server),
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
    )
