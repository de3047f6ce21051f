"""The storm's devices against scripted hubs: what they count decides whether a storm has passed."""

from typing import Any

from loadtests.driver.burst import Burst, event_id, source_address
from tests.loadtests.hub_double import Connection, HubDouble


def send(connection: Connection, *seqs: int) -> None:
    """Frames laid out as the hub writes them, which is what the driver reads."""
    connection.socket.send('{"type":"welcome","position":"1:0"}')
    for seq in seqs:
        the_id = event_id(connection.query["device_id"], seq)
        connection.socket.send(f'{{"type":"event","seq":{seq},"event":{{"id":"{the_id}","type":"T"}}}}')


def send_and_stay(connection: Connection, *seqs: int) -> None:
    send(connection, *seqs)
    connection.stay()


def blow(hub: HubDouble, *devices: str) -> dict[str, Any]:
    port = int(hub.url.rpartition(":")[2].partition("/")[0])
    return Burst(port, dict.fromkeys(devices, "token"), missed=3).run(deadline_s=30)


def test_devices_that_are_shown_all_they_missed_ack_it() -> None:
    with HubDouble(lambda connection: send_and_stay(connection, 1, 2, 3)) as hub:
        seen = blow(hub, "a", "b")
        acks = sorted(max(connection.acks) for connection in hub.connections)
    assert seen["welcomed"] == 2
    assert seen["shown"] == 6
    assert seen["out_of_order_or_repeated"] == 0
    assert seen["all_acked_s"] is not None
    assert acks == [3, 3]


def test_a_missing_a_repeated_and_a_foreign_event_are_seen() -> None:
    with HubDouble(lambda connection: send(connection, 1, 1, 3)) as hub:
        seen = blow(hub, "a")
    assert seen["shown"] == 1
    assert seen["out_of_order_or_repeated"] == 2
    assert seen["all_acked_s"] is None


def test_what_comes_after_the_last_event_is_seen_too() -> None:
    with HubDouble(lambda connection: send_and_stay(connection, 1, 2, 3, 3)) as hub:
        seen = blow(hub, "a")
    assert (seen["shown"], seen["out_of_order_or_repeated"]) == (3, 1)


def test_a_refusal_is_counted_by_its_status() -> None:
    with HubDouble(lambda connection: send_and_stay(connection, 1, 2, 3), refusals=[503]) as hub:
        seen = blow(hub, "a", "b")
    assert seen["refusals"] == {503: 1}
    assert seen["cut"] == 1
    assert seen["shown"] == 3


def test_every_device_has_an_address_of_its_own() -> None:
    assert len({source_address(number) for number in range(70_000)}) == 70_000
    assert source_address(0) == "127.64.0.0"
