"""One write per socket and turn, and one socket's trouble is its own."""

import asyncio
from collections.abc import Callable

from hub.flusher import Flusher


class Socket:
    def __init__(self, *, broken: bool = False, then: Callable[[], None] = lambda: None) -> None:
        self.broken = broken
        self.then = then
        self.flushes = 0

    def flush(self) -> None:
        self.flushes += 1
        self.then()
        if self.broken:
            raise RuntimeError("cannot be written to")


def add(flusher: Flusher, socket: Socket) -> None:
    if not flusher.dirty:
        flusher.wake()
    flusher.dirty.append(socket)


async def test_what_is_added_in_one_turn_is_flushed_once_at_its_end() -> None:
    flusher, sockets = Flusher(asyncio.get_running_loop()), [Socket() for _ in range(3)]
    for socket in sockets:
        add(flusher, socket)
    assert [socket.flushes for socket in sockets] == [0, 0, 0]
    await asyncio.sleep(0)
    assert [socket.flushes for socket in sockets] == [1, 1, 1]


async def test_a_batch_is_flushed_by_whoever_began_it() -> None:
    flusher, socket = Flusher(asyncio.get_running_loop()), Socket()
    flusher.in_batch = True
    add(flusher, socket)
    await asyncio.sleep(0)
    assert socket.flushes == 0
    flusher.flush()
    assert socket.flushes == 1


async def test_a_socket_that_cannot_be_written_to_does_not_keep_the_frames_of_others() -> None:
    flusher, sockets = Flusher(asyncio.get_running_loop()), [Socket(), Socket(broken=True), Socket()]
    for socket in sockets:
        add(flusher, socket)
    flusher.flush()
    assert [socket.flushes for socket in sockets] == [1, 1, 1]


async def test_who_asked_for_it_is_called_once_when_all_is_written() -> None:
    flusher, socket = Flusher(asyncio.get_running_loop()), Socket()
    add(flusher, socket)
    seen: list[int] = []
    flusher.after_flush(lambda: seen.append(socket.flushes))
    await asyncio.sleep(0)
    flusher.flush()
    assert seen == [1]


async def test_what_is_added_while_others_are_written_is_written_too() -> None:
    flusher = Flusher(asyncio.get_running_loop())
    late = Socket()
    add(flusher, Socket(then=lambda: add(flusher, late)))
    flusher.flush()
    assert late.flushes == 1
    add(flusher, late)
    await asyncio.sleep(0)
    assert late.flushes == 2, "who comes after it wakes the loop again"
