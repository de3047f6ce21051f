"""Which points are measured."""

from loadtests.bench.peers.compare import POINTS, Figures, PointFigures, beyond


def point(name: str, us_per_event: float, *, lost: int = 0) -> PointFigures:
    return PointFigures(name, us_per_event, (us_per_event,), 100, 10, lost, 0.0, {})


def test_a_rate_that_a_core_cannot_carry_by_far_is_not_tried() -> None:
    first, fast, to_all = POINTS
    found = Figures("peer", 500)
    assert beyond(found, first) is None
    found.points[first.name] = point(first.name, 100.0)
    assert beyond(found, fast) == "would need more than 1.2 cores"
    assert beyond(found, to_all) is None
    found.points[first.name] = point(first.name, 50.0)
    assert beyond(found, fast) is None


def test_after_a_point_whose_events_did_not_all_come_nothing_more_is_measured() -> None:
    first, fast, to_all = POINTS
    found = Figures("peer", 500, points={first.name: point(first.name, 10.0, lost=1)})
    assert beyond(found, fast)
    assert beyond(found, to_all)
