from collections import deque
from dataclasses import dataclass
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from worker.ending_batches import BatchLimits, next_batch


@dataclass(frozen=True, slots=True)
class Ending:
    job_id: UUID
    file_count: int
    size: int


def endings() -> st.SearchStrategy[list[Ending]]:
    number = st.integers(0, 5)
    return st.lists(st.builds(Ending, number.map(lambda n: UUID(int=n)), st.integers(0, 9), st.integers(0, 99)))


@given(endings(), st.integers(1, 6), st.integers(0, 12), st.integers(0, 200))
def test_every_ending_goes_into_one_transaction_in_order_and_within_bounds(
    came: list[Ending], most: int, files: int, size: int
) -> None:
    waiting = deque(came)
    batches = []
    while waiting:
        batches.append(next_batch(waiting, BatchLimits(most, files, size)))
    assert [ending for batch in batches for ending in batch] == came
    for batch in batches:
        assert 1 <= len(batch) <= most
        assert len({ending.job_id for ending in batch}) == len(batch)
        if len(batch) > 1:
            assert sum(ending.file_count for ending in batch) <= files
            assert sum(ending.size for ending in batch) <= size


def test_a_batch_is_filled_as_far_as_the_bounds_allow() -> None:
    waiting = deque(Ending(UUID(int=n), 1, 10) for n in range(7))
    assert [len(next_batch(waiting, BatchLimits(3, 100, 1000))) for _ in range(3)] == [3, 3, 1]
