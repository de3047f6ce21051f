"""A device on gevent against a scripted hub: what the session decides is done, and every way back is taken."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from random import Random

import gevent
import pytest
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from device.actions import Delivery
from device.timing import Timing
from loadtests.gevent_device import DeviceEnded, GeventDevice, Place
from loadtests.gevent_link import GeventLink, LinkClosed, NoLink, open_link
from tests.loadtests.hub_double import Connection, HubDouble

QUICK = Timing().faster(10)


class Run:
    """A device in its greenlet, and what it reported."""

    def __init__(self, *urls: str) -> None:
        self.given: list[int] = []
        self.tries: list[str] = []
        self.device = GeventDevice(
            "gevent-1", lambda: Place(urls, "ticket"), self._on_event, Random(1), self._on_try, QUICK
        )
        self.greenlet = gevent.spawn(self.device.run)

    def _on_event(self, delivery: Delivery) -> None:
        self.given.append(delivery.position.seq)

    def _on_try(self, seconds: float, error: Exception | None) -> None:
        assert seconds >= 0
        self.tries.append(str(error or "welcomed"))

    def until(self, condition: Callable[[], bool]) -> None:
        with gevent.Timeout(10):
            while not condition():
                gevent.sleep(0.002)


@contextmanager
def running(*urls: str) -> Iterator[Run]:
    run = Run(*urls)
    try:
        yield run
    finally:
        run.device.stop()
        with gevent.Timeout(10):
            run.greenlet.join()


def events(*seqs: int, after: int = 0) -> Callable[[Connection], None]:
    def script(connection: Connection) -> None:
        connection.welcome(after, acked=after)
        for seq in seqs:
            connection.event(seq)
        connection.stay()

    return script


def test_events_are_given_in_order_and_acked_and_the_rest_is_acked_at_the_end() -> None:
    with HubDouble(events(1, 2, 3)) as hub:
        with running(hub.url) as run:
            run.until(lambda: run.given == [1, 2, 3])
            assert run.device.live
        connection = hub.connections[0]
        run.until(lambda: connection.closed is not None)
    assert connection.acks[-1] == 3
    assert connection.closed == (1000, "done")
    assert connection.query["device_id"] == "gevent-1"
    assert "after" not in connection.query
    assert run.tries == ["welcomed"]


def test_a_hole_makes_it_come_back_for_what_is_missing() -> None:
    with HubDouble(events(1, 3), events(2, 3, after=1)) as hub, running(hub.url) as run:
        run.until(lambda: run.given == [1, 2, 3])
        assert hub.connections[1].query["after"] == "1:1"
        assert hub.connections[1].query["instance"] == hub.connections[0].query["instance"]
        assert hub.connections[1].query["attempt"] > hub.connections[0].query["attempt"]


def test_it_comes_back_from_a_hub_that_drains() -> None:
    def drain(connection: Connection) -> None:
        connection.welcome()
        connection.event(1)
        connection.socket.close(4001, "hub is draining")

    with HubDouble(drain, events(2, after=1)) as hub, running(hub.url) as run:
        run.until(lambda: run.given == [1, 2])
        assert run.tries == ["welcomed", "welcomed"]


def test_a_refusal_is_a_failed_try_and_is_tried_again() -> None:
    with HubDouble(events(1), refusals=[503]) as hub, running(hub.url) as run:
        run.until(lambda: run.given == [1])
        assert run.tries == ["HTTP 503", "welcomed"]


def test_the_next_address_is_tried_when_the_first_refuses() -> None:
    with HubDouble(events(1)) as full, HubDouble(events(1)) as free, running("ws://127.0.0.1:1/", free.url) as run:
        run.until(lambda: run.given == [1])
        assert run.tries == ["welcomed"]
        assert not full.connections


def test_it_ends_when_another_client_has_taken_over() -> None:
    def replaced(connection: Connection) -> None:
        connection.welcome()
        connection.socket.close(4300, "replaced")

    with HubDouble(replaced) as hub:
        run = Run(hub.url)
        with pytest.raises(DeviceEnded, match="4300 replaced"), gevent.Timeout(10):
            run.greenlet.get()


def test_it_moves_and_the_old_socket_goes_when_the_new_one_is_welcomed() -> None:
    with HubDouble(events(2, after=1)) as second:

        def moved(connection: Connection) -> None:
            connection.welcome()
            connection.event(1)
            connection.send(type="moved", url=second.url, after_ms=10, reason="rebalance")
            connection.stay()

        with HubDouble(moved) as first, running(first.url) as run:
            run.until(lambda: run.given == [1, 2])
            run.until(lambda: first.connections[0].closed is not None)
            assert run.device.live
            assert run.device.sockets == 2


def test_it_moves_again_from_where_it_was_moved_to() -> None:
    with HubDouble(events(3, after=2)) as third:

        def on_to(url: str, seq: int) -> Callable[[Connection], None]:
            def script(connection: Connection) -> None:
                connection.welcome(seq - 1, acked=seq - 1)
                connection.event(seq)
                connection.send(type="moved", url=url, after_ms=10, reason="rebalance")
                connection.stay()

            return script

        with HubDouble(on_to(third.url, 2)) as second, HubDouble(on_to(second.url, 1)) as first:
            with running(first.url) as run:
                run.until(lambda: run.given == [1, 2, 3])
                run.until(lambda: second.connections[0].closed is not None)
                assert run.device.live
                assert run.device.sockets == 3


def test_a_hub_that_accepts_and_says_nothing_is_left() -> None:
    with HubDouble(lambda connection: connection.stay(), events(1)) as hub, running(hub.url) as run:
        run.until(lambda: run.given == [1])
        assert run.tries[0].startswith("1006")


def test_a_hub_that_falls_silent_is_asked_and_then_left() -> None:
    def silent(connection: Connection) -> None:
        connection.welcome(heartbeat_s=0.05)
        connection.socket.protocol.send_frame = lambda frame: None  # type: ignore[method-assign] # not even a pong
        connection.stay()

    with HubDouble(silent, events(1)) as hub, running(hub.url) as run:
        run.until(lambda: run.given == [1])


def test_a_welcome_in_one_piece_with_the_handshake_is_read_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                protocol = ServerProtocol(subprotocols=[Subprotocol("fleetwire.v1")])
                protocol.receive_data(connection.recv(65536))
                (request,) = protocol.events_received()
                assert isinstance(request, Request)
                protocol.send_response(protocol.accept(request))
                for data, fin, opcode in ((b"in ", False, Opcode.TEXT), (b"parts", True, Opcode.CONT)):
                    protocol.writes.append(Frame(opcode, data, fin).serialize(mask=False))
                connection.sendall(b"".join(protocol.data_to_send()))
                connection.recv(1)  # until the device has gone

        thread = threading.Thread(target=answer)
        thread.start()
        link = open_link(f"ws://127.0.0.1:{listener.getsockname()[1]}/", "ticket", QUICK)
        assert receive(link) == [b"in parts"]
        link.abort()
        thread.join(5)


def receive(link: GeventLink) -> list[bytes]:
    with gevent.Timeout(5):
        while not (texts := link.receive(1.0)):
            pass
        return texts


def test_a_frame_that_is_too_large_ends_the_link() -> None:
    def large(connection: Connection) -> None:
        connection.socket.send("x" * (513 * 1024))
        connection.stay()

    with HubDouble(large) as hub:
        link = open_link(hub.url, "ticket", QUICK)
        with pytest.raises(LinkClosed, match="1006"):
            receive(link)


def test_tickets_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"), HubDouble(events(1)) as hub:
        open_link(hub.url, "secret-ticket", QUICK).abort()
    ours = [record.getMessage() for record in caplog.records if record.name != "websockets.server"]
    assert not any("secret-ticket" in message for message in ours)


def test_only_plain_sockets_are_opened() -> None:
    with pytest.raises(NoLink, match="ws:// sockets only"):
        open_link("wss://127.0.0.1/", "ticket", QUICK)
    with pytest.raises(NoLink, match="ConnectionRefusedError"):
        open_link("ws://127.0.0.1:1/", "ticket", QUICK)
