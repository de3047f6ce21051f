"""The shapes: how many devices when, and what they need."""

import pytest

from loadtests.shapes import Shape, asked_processes, users_at
from shared.settings import SettingsError


def test_a_ramp_goes_from_a_tenth_to_all_and_back() -> None:
    assert users_at(Shape.RAMP, 1000, 0.0) == users_at(Shape.RAMP, 1000, 1.0) == 100
    assert users_at(Shape.RAMP, 1000, 0.5) == 1000
    up = [users_at(Shape.RAMP, 1000, part / 100) for part in range(50)]
    assert up == sorted(up)
    assert len(set(up)) <= 22  # in steps, because each step down waits for its devices to go


@pytest.mark.parametrize("shape", [shape for shape in Shape if shape is not Shape.RAMP])
def test_the_others_hold_all_devices_throughout(shape: Shape) -> None:
    assert {users_at(shape, 40, part / 10) for part in range(11)} == {40}


def test_a_shape_that_asks_processes_needs_to_know_them() -> None:
    ops = {"api": 9000, "hub-1": 9101, "hub-2": 9102}
    assert asked_processes(Shape.STORM, None) == {}
    assert asked_processes(Shape.SOAK, ops) == ops
    assert asked_processes(Shape.DRAIN, ops) == {"hub-1": 9101, "hub-2": 9102}
    with pytest.raises(SettingsError, match="--shape soak asks the operations ports"):
        asked_processes(Shape.SOAK, None)
    with pytest.raises(SettingsError, match="needs two hubs"):
        asked_processes(Shape.DRAIN, {"hub-1": 9101})
