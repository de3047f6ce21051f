"""What the kernel tells of a connection."""

import socket
import sys

import pytest

from hub.link import LinkState, link_state

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")


def test_bytes_that_the_peer_does_not_take_are_seen_and_are_no_dead_link() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    near = socket.create_connection(listener.getsockname())
    far, _ = listener.accept()
    with listener, near, far:
        fresh = link_state(near)
        assert fresh == LinkState(0, 0, fresh.rtt_s)
        assert 0 < fresh.rtt_s < 1, "the kernel measured the handshake"
        near.setblocking(False)
        sent = 0
        while True:
            try:
                sent += near.send(b"x" * 65536)
            except BlockingIOError:
                break
        state = link_state(near)
        assert 0 < state.unsent <= sent
        assert not state.is_gone
        while sent:
            sent -= len(far.recv(1 << 20))
        assert not link_state(near).is_gone
    assert link_state(near) == LinkState(0, 0)
    assert link_state(None) == LinkState(0, 0)


def test_transmissions_that_nobody_answers_mean_a_dead_link() -> None:
    assert LinkState(100, 3).is_gone
    assert not LinkState(100, 1).is_gone
