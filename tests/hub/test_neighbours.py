"""What a hub makes of the rows of the others."""

from hub.neighbours import Neighbours
from shared.store.hubs import HubRow


def row(name: str, connections: int = 0, *, draining: bool = False, leaving: bool = False) -> HubRow:
    return HubRow(name, f"{name}-run", f"ws://{name}:1", connections, 10, draining, None, leaving)


def test_its_view_is_of_those_that_stay_and_every_look_is_told() -> None:
    looks: list[list[str]] = []
    neighbours = Neighbours("hub-a", "hub-a-run", period_s=5.0, proxy_url=None)
    assert neighbours.view.names == ["hub-a"]
    neighbours.on_view = lambda: looks.append(neighbours.view.names)
    neighbours.on_rows([row("hub-a"), row("hub-b", draining=True), row("hub-c", draining=True, leaving=True)])
    assert looks == [["hub-a", "hub-b"]]
    found = [neighbours.is_alone]
    neighbours.on_rows([row("hub-a"), row("hub-b", 10)])
    assert [*found, neighbours.is_alone] == [True, False]  # full is not gone
    assert neighbours.heir(1) is None


def test_those_on_their_way_take_room_even_when_the_rows_do_not_know_them_yet() -> None:
    neighbours = Neighbours("hub-a", "run", period_s=5.0, proxy_url=None)
    neighbours.on_rows([row("hub-a"), row("hub-b", 7)])
    for _ in range(3):
        neighbours.sent_to("hub-b")
    hub = neighbours.get("hub-b")
    assert hub is not None
    assert (hub.room, hub.accepts) == (0, False)
    neighbours.on_rows([row("hub-a"), row("hub-b", 7)])
    again = neighbours.get("hub-b")
    assert again is not None
    assert again.room == 0


def test_those_that_have_come_are_not_counted_twice() -> None:
    neighbours = Neighbours("hub-a", "run", period_s=5.0, proxy_url=None)
    for connections in range(8):
        neighbours.on_rows([row("hub-a"), row("hub-b", connections)])
        hub = neighbours.get("hub-b")
        assert hub is not None
        assert hub.room == 10 - connections
        neighbours.sent_to("hub-b")


def test_devices_are_told_the_hubs_address_or_the_proxys() -> None:
    for proxy, url in ((None, "ws://hub-b:1/v1/socket"), ("wss://edge", "wss://edge/v1/socket?hub=hub-b")):
        neighbours = Neighbours("hub-a", "run", period_s=5.0, proxy_url=proxy)
        neighbours.on_rows([row("hub-a"), row("hub-b")])
        assert neighbours.url("hub-b") == url
