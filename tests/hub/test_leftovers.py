"""What ended is not kept: neither by the wheel until its next visit, nor by itself until a collection."""

import gc

from hub.connection import Connection
from hub.device_socket import DeviceSocket
from hub.server_protocol import DeviceServerProtocol
from hub.session import Session
from tests.hub.conftest import Fleet, StartHub, until

KINDS = (Connection, DeviceSocket, DeviceServerProtocol, Session)


def held() -> list[str]:
    return [type(one).__name__ for one in gc.get_objects() if isinstance(one, KINDS)]


async def test_nothing_of_a_connection_outlives_it(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_HEARTBEAT_S="20", FLEETWIRE_HUB_PONG_S="8")
    gc.collect()
    before = len(held())
    gc.disable()
    try:
        devices = [await fleet.connect(hub.url, await fleet.new_device()) for _ in range(6)]
        for device in devices:
            await device.welcome()
        assert len(held()) == before + len(KINDS) * len(devices)
        for number, device in enumerate(devices):
            if number % 2:
                await device.socket.close()
            else:
                device.socket.transport.abort()
        await until(lambda: not hub.running.hub.registry.by_device)
        await until(lambda: len(held()) <= before)
    finally:
        gc.enable()
