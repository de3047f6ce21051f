"""Django Channels with the pub/sub layer of channels_redis on uvicorn: each device is a group, and all are one.

Runs in the throw-away environment, as a file: PORT as argument, PEER_REDIS_URL in the environment.
"""

import os
import sys
from typing import Any

import django
import uvicorn
from django.conf import settings

settings.configure(
    SECRET_KEY="of no use here",
    INSTALLED_APPS=[],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [os.environ["PEER_REDIS_URL"]]},
        }
    },
)
django.setup()

from channels.generic.websocket import AsyncJsonWebsocketConsumer  # noqa: E402 - needs the settings
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

EVERYBODY = "everybody"


class Device(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """One device's socket."""

    acks = 0

    async def connect(self) -> None:
        """Join both groups, then accept."""
        await self.channel_layer.group_add(self.scope["url_route"]["kwargs"]["device"], self.channel_name)
        await self.channel_layer.group_add(EVERYBODY, self.channel_name)
        await self.accept()

    async def receive_json(self, content: dict[str, Any], **_: Any) -> None:
        """Count an ack: there is nothing to record it in."""
        Device.acks += content["type"] == "ack"

    async def device_event(self, message: dict[str, Any]) -> None:
        """An event from the group."""
        await self.send_json(message["data"])


if __name__ == "__main__":
    uvicorn.run(
        ProtocolTypeRouter({"websocket": URLRouter([path("ws/<str:device>", Device.as_asgi())])}),
        port=int(sys.argv[1]),
        loop="uvloop",
        lifespan="off",
        log_level="warning",
        access_log=False,
        ws_per_message_deflate=False,
    )
