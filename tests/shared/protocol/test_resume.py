import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.position import EPOCH_MAX, Position
from shared.protocol.resume import (
    EPOCH_LEAD_MAX,
    GoOn,
    Implausible,
    LogLossSuspected,
    StartOver,
    acked_position,
    resume,
)


@pytest.mark.parametrize(
    ("after", "answer"),
    [
        (Position(2, 99), StartOver(Position(3, 40), "epoch")),
        (Position(3, 9), StartOver(Position(3, 10), "retention")),
        (Position(3, 10), GoOn(10)),
        (Position(3, 70), GoOn(70)),
        (Position(3, 100), GoOn(100)),
        (Position(3, 101), LogLossSuspected(3)),
        (Position(4, 0), LogLossSuspected(4)),
        (Position(3 + EPOCH_LEAD_MAX, 0), LogLossSuspected(3 + EPOCH_LEAD_MAX)),
        (Position(4 + EPOCH_LEAD_MAX, 0), Implausible()),
        (Position(EPOCH_MAX, 0), Implausible()),
    ],
)
def test_every_row_of_the_resume_table(after: Position, answer: object) -> None:
    assert resume(after, epoch=3, floor=10, head=100, acked=40) == answer


def test_a_cursor_below_the_floor_starts_over_from_the_floor() -> None:
    assert resume(Position(1, 5), epoch=2, floor=10, head=100, acked=4) == StartOver(Position(2, 10), "epoch")


logs = st.tuples(*[st.integers(0, 50)] * 3).map(sorted)


@given(logs, st.integers(1, 5), st.integers(1, 8), st.integers(0, 60))
def test_where_a_device_starts_over_it_can_always_go_on(
    numbers: list[int], epoch: int, asked_epoch: int, asked_seq: int
) -> None:
    floor, acked, head = numbers
    answer = resume(Position(asked_epoch, asked_seq), epoch=epoch, floor=floor, head=head, acked=acked)
    if isinstance(answer, StartOver):
        again = resume(answer.position, epoch=epoch, floor=floor, head=head, acked=acked)
        assert again == GoOn(answer.position.seq)
    if isinstance(answer, GoOn):
        assert floor <= answer.seq <= head


@given(st.tuples(*[st.integers(0, 50)] * 2).map(sorted), st.integers(0, 80))
def test_the_acked_position_always_lies_in_the_log(bounds: list[int], acked: int) -> None:
    floor, head = bounds
    position = acked_position(epoch=2, floor=floor, head=head, acked=acked)
    assert resume(position, epoch=2, floor=floor, head=head, acked=acked) == GoOn(position.seq)
