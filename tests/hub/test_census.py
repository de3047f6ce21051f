"""Who counts as a socket, and which of them are cut before they have said anything."""

import asyncio

import pytest

from hub.census import Census
from hub.device_socket import DeviceSocket, SocketLimits
from hub.flusher import Flusher
from hub.socket_owners import Nobody
from tests.hub.test_device_socket import Transport


def arrive(census: Census) -> tuple[DeviceSocket, Transport]:
    socket = DeviceSocket(
        Nobody(lambda lost: None),
        Flusher(asyncio.get_running_loop()),
        on_request=lambda asking, request: None,
        limits=SocketLimits(request_s=30, close_s=30, write_max_bytes=1000),
        census=census,
    )
    transport = Transport()
    socket.connection_made(transport)  # type: ignore[arg-type]
    return socket, transport


async def test_a_socket_counts_from_its_first_moment_to_its_last() -> None:
    census = Census(2)
    first, _ = arrive(census)
    second, _ = arrive(census)
    assert repr(census) == "Census(2 of 2 sockets)"
    first.connection_lost(None)
    second.connection_lost(None)
    assert census.sockets == 0


async def test_one_too_many_is_cut_and_leaves_its_place_again() -> None:
    census = Census(1)
    first, kept = arrive(census)
    second, cut = arrive(census)
    assert (kept.closing, cut.closing) == (False, True)
    second.connection_lost(None)
    assert census.sockets == 1
    first.connection_lost(None)


@pytest.mark.parametrize(("said", "counted", "is_cut"), [("2001:db8::1", "2001:db8::1", False), (None, "", True)])
async def test_a_socket_leaves_the_address_it_came_for(said: str | None, counted: str, is_cut: bool) -> None:
    left: list[str] = []
    census = Census(9, arrive=lambda peer: said, leave=left.append)
    socket, transport = arrive(census)
    assert transport.closing is is_cut
    socket.connection_lost(None)
    assert left == [counted]
