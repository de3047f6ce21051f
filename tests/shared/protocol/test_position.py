"""Positions are `epoch:seq` and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.position import EPOCH_MAX, SEQ_MAX, InvalidPosition, Position, parse_position


@given(st.integers(1, EPOCH_MAX), st.integers(0, SEQ_MAX))
def test_reading_what_was_written_gives_it_back(epoch: int, seq: int) -> None:
    assert parse_position(str(Position(epoch, seq))) == Position(epoch, seq)


@pytest.mark.parametrize(
    "text",
    ["", ":", "1", "1:", ":1", "0:1", "-1:2", "1:-2", "1:2:3", " 1:2", "1:2 ", "+1:2", "1.0:2", "1:2e3", "١:٢", "1_0:2",
     f"{EPOCH_MAX + 1}:0", f"1:{SEQ_MAX + 1}", "1:" + "9" * 400],
)  # fmt: skip
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidPosition):
        parse_position(text)


def test_positions_order_by_epoch_first() -> None:
    assert Position(1, 99) < Position(2, 0) < Position(2, 1)
