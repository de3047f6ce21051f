"""Sockets that no device has: nothing may come from one before its upgrade, everything from one that is sent away."""

import asyncio
from typing import Any

import pytest

from hub.census import Census
from hub.device_socket import DeviceSocket, SocketLimits
from hub.flusher import Flusher
from hub.socket_owners import Dismissed, Nobody


def a_socket(owner: Any) -> DeviceSocket:
    return DeviceSocket(
        owner,
        Flusher(asyncio.get_running_loop()),
        on_request=lambda socket, request: None,
        limits=SocketLimits(request_s=1.0, close_s=1.0, write_max_bytes=1000),
        census=Census(1),
    )


async def test_a_frame_before_the_upgrade_is_a_fault_of_ours() -> None:
    nobody = Nobody(lambda socket: None)
    with pytest.raises(AssertionError):
        nobody.on_ack(1)
    with pytest.raises(AssertionError):
        nobody.on_text(b"{}")
    with pytest.raises(AssertionError):
        nobody.on_much()
    with pytest.raises(AssertionError):
        nobody.on_closing()


async def test_what_a_dismissed_socket_still_says_is_nobodys() -> None:
    dismissed = Dismissed(lambda socket: None)
    dismissed.on_ack(1)
    dismissed.on_text(b"{}")
    dismissed.on_much()
    dismissed.on_closing()


@pytest.mark.parametrize("kind", [Nobody, Dismissed])
async def test_the_endpoint_hears_once_that_the_socket_is_gone(kind: type[Nobody] | type[Dismissed]) -> None:
    gone: list[DeviceSocket] = []
    socket = a_socket(kind(gone.append))
    socket.connection_lost(None)
    assert gone == [socket]
