"""Acks on their way to Postgres: only the highest, bounded, never lost by a failure."""

from hypothesis import given
from hypothesis import strategies as st

from hub.acks import AckBook
from shared.store.cursors import Ack
from shared.telemetry.metrics import HUB_ACKS_DROPPED


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 3), st.integers(0, 50), st.booleans())))
def test_what_is_written_in_the_end_is_the_highest_of_each_device(steps: list[tuple[str, int, int, bool]]) -> None:
    book = AckBook(10)
    highest: dict[str, tuple[int, int]] = {}
    for device, epoch, seq, fails in steps:
        book.note(device, epoch, seq)
        highest[device] = max(highest.get(device, (0, 0)), (epoch, seq))
        if fails:
            taken = book.take(2)
            book.note(device, epoch, seq)
            book.put_back(taken)
    assert sorted(book.take(10)) == sorted(Ack(device, *position) for device, position in highest.items())
    assert len(book) == 0


def test_the_book_is_bounded_by_devices_and_counts_what_it_gives_up() -> None:
    book = AckBook(2)
    dropped = HUB_ACKS_DROPPED._value.get()
    for device in ("a", "b", "c"):
        book.note(device, 1, 1)
    assert HUB_ACKS_DROPPED._value.get() == dropped + 1
    book.note("c", 1, 5)
    assert (len(book), book.dropped) == (2, 1)
    assert book.take(5) == [Ack("b", 1, 1), Ack("c", 1, 5)]
