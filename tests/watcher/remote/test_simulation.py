"""Schedules of faults in virtual time: whatever fails, every version is announced once and the newest is observed."""

import pytest

from loadtests.watching.world import Broken, World
from watcher.remote import steps
from watcher.remote.judge import judge

SCHEDULES = 500
PARTS = 10


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_fails_every_version_is_announced_once_and_the_newest_is_observed(part: int) -> None:
    for seed in range(part, SCHEDULES, PARTS):
        World(seed).run()


def test_a_world_is_the_same_each_time_it_is_played() -> None:
    played = [World(7) for _ in range(2)]
    for world in played:
        world.run()
    assert played[0].faults == played[1].faults
    assert played[0].store.tables == played[1].store.tables


def test_a_ledger_that_forgets_what_it_announced_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "judge", lambda seen, known: judge(seen, known._replace(version=None)))

    def play() -> None:
        for seed in range(20):
            World(seed).run()

    with pytest.raises(Broken, match="nothing is announced twice"):
        play()
