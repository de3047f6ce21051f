"""What sockets cost an event is compared with the fewest, of the same server at the same rate."""

from loadtests.bench.by_sockets import COLUMNS, Cost, rows


def cost(server: str, devices: int, rate: int, us_per_event: float) -> Cost:
    latency = {"p50_ms": 1.0, "p99_ms": 2.0}
    return Cost(server, devices, rate, us_per_event, (us_per_event,), 1.0, 0, latency, 7.5)


def test_each_size_stands_beside_the_fewest_devices_of_its_server_and_rate() -> None:
    shown = rows(
        [
            cost("hub", 18_000, 4_000, 22.0),
            cost("hub", 500, 4_000, 20.0),
            cost("hub", 500, 20_000, 10.0),
            cost("relay", 18_000, 4_000, 18.0),
            cost("relay", 500, 4_000, 15.0),
        ]
    )
    assert all(len(row) == len(COLUMNS) for row in shown)
    ratio = COLUMNS.index("to fewest")
    assert [(row[0], row[1], row[2], row[ratio]) for row in shown] == [
        ("4,000", "hub", "500", "1.00"),
        ("4,000", "hub", "18,000", "1.10"),
        ("4,000", "relay", "500", "1.00"),
        ("4,000", "relay", "18,000", "1.20"),
        ("20,000", "hub", "500", "1.00"),
    ]
