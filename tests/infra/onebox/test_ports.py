"""Ports are settled before anything starts."""

import socket

import pytest

from infra.onebox.errors import PortTaken
from infra.onebox.ports import PortWish, settle


def test_a_taken_port_is_named_with_the_setting_that_moves_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortTaken, match=f"port {port} for the API is taken: set FLEETWIRE_API_PORT") as caught:
            settle([PortWish("the API", port, "FLEETWIRE_API_PORT"), PortWish("hub 1", 0, "FLEETWIRE_HUB_PORT")])
    assert len(caught.value.problems) == 1


def test_all_taken_ports_are_named_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        wishes = [PortWish("a", one.getsockname()[1], "A"), PortWish("b", two.getsockname()[1], "B")]
        with pytest.raises(PortTaken) as caught:
            settle(wishes)
    assert [problem.rpartition(": set ")[2] for problem in caught.value.problems[:2]] == [
        "A to a free one",
        "B to a free one",
    ]
    assert "another Fleetwire may run on this machine" in caught.value.problems[2]


def test_the_same_port_for_two_is_refused() -> None:
    [port] = settle([PortWish("a", 0, "A")])
    with pytest.raises(PortTaken, match=r"port \d+ for b"):
        settle([PortWish("a", port, "A"), PortWish("b", port, "B")])


def test_zero_takes_any_free_port() -> None:
    ports = settle([PortWish(str(number), 0, "") for number in range(20)])
    assert len(set(ports)) == 20
    assert all(ports)


def test_settled_ports_are_free_again() -> None:
    [port] = settle([PortWish("a", 0, "A")])
    with socket.create_server(("127.0.0.1", port)):
        pass
