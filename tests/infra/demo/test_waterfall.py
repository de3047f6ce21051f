"""The waterfall: times in order, in milliseconds, on one scale."""

from infra.demo.waterfall import Stages, render


def test_each_stage_has_its_time_since_the_start_and_since_the_one_before() -> None:
    shown = render([Stages("truck", (("dropped", 100.0), ("detected", 100.010), ("recorded", 100.250)))])
    lines = shown.splitlines()
    assert lines[0] == "truck"
    assert lines[2].split()[:4] == ["detected", "10.0", "ms", "+10.0"]
    assert lines[3].split()[:4] == ["recorded", "250.0", "ms", "+240.0"]


def test_bars_of_all_events_share_one_scale() -> None:
    shown = render(
        [
            Stages("slow", (("dropped", 0.0), ("acked", 1.0))),
            Stages("quick", (("dropped", 0.0), ("acked", 0.5))),
        ]
    )
    slow, quick = (line for line in shown.splitlines() if "acked" in line)
    assert slow.count("█") == 2 * quick.count("█") == 40


def test_stages_that_take_no_time_are_still_drawn() -> None:
    assert "▏" in render([Stages("instant", (("dropped", 1.0), ("acked", 1.0)))])
