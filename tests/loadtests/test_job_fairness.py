"""What the run on fairness says of what it found."""

from dataclasses import replace

from loadtests.job_fairness import Figures

FAIR = Figures(
    alone_p50=110.0, alone_p95=120.0, flooded_p50=160.0, flooded_p95=220.0, flooded_max=230.0, beside_poison_p50=112.0,
    beside_poison_p95=700.0, flood_waiting=9000, flood_done=1000, poisoned=5, poisoned_dead=5, poisoned_told=5,
    attempts_lost=0, not_done=0,
)  # fmt: skip


def test_a_run_in_which_all_held_has_no_problems() -> None:
    assert (FAIR.problems, FAIR.ratio) == ([], 1.83)


def test_whatever_did_not_hold_is_named() -> None:
    for change in (
        {"flooded_p50": 221.0}, {"flooded_p95": 241.0}, {"flood_waiting": 0}, {"poisoned_dead": 4},
        {"poisoned_told": 6}, {"attempts_lost": 1}, {"not_done": 1},
    ):  # fmt: skip
        assert len(replace(FAIR, **change).problems) == 1, change
