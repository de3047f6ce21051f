"""Which points are measured."""

from loadtests.bench.peers.compare import Figures, PointFigures, beyond, loads


def test_events_to_all_come_as_seldom_as_the_devices_are_many() -> None:
    for devices in (500, 5_000, 18_000):
        (to_all,) = (load for load in loads(devices) if load.mode == "all")
        assert to_all.rate * devices == 5_000


def test_a_rate_that_a_core_cannot_carry_by_far_is_not_tried() -> None:
    first, fast, to_all = loads(500)
    found = Figures("peer", 500)
    assert beyond(found, first) is None
    found.points[first.name] = PointFigures(first.name, 100.0, 1, 0, 0.0, {})
    assert beyond(found, fast) == "would need more than 1.2 cores"
    assert beyond(found, to_all) is None
    found.points[first.name] = PointFigures(first.name, 50.0, 1, 0, 0.0, {})
    assert beyond(found, fast) is None


def test_after_a_point_whose_events_did_not_all_come_nothing_more_is_measured() -> None:
    first, fast, to_all = loads(500)
    found = Figures("peer", 500, points={first.name: PointFigures(first.name, 10.0, 1, 1, 0.0, {})})
    assert beyond(found, fast)
    assert beyond(found, to_all)
