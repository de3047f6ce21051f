from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.provider import Capabilities, Part
from shared.cloud.transfer_plan import PART_BYTES, PARTS_MAX, Patience, TooLarge, TransferPlan, part_size, unbroken

MIB = 1024 * 1024


def able(*, multiple: int = 1, least: int = 1, most: int = 5 << 30, at_once: int = 3) -> Capabilities:
    return Capabilities(
        changes="listing",
        push=False,
        names_unique=True,
        case_sensitive=True,
        moves=True,
        hashes=frozenset(),
        single_max=MIB,
        part_multiple=multiple,
        part_min=least,
        part_max=most,
        parts_at_once=at_once,
    )


@pytest.mark.parametrize(
    ("provider", "size", "expected"),
    [
        (able(), 3, 10 * MIB),
        (able(multiple=327_680, most=60 * MIB), 2 << 30, 10 * MIB),
        (able(multiple=262_144), 2 << 30, 10 * MIB),
        (able(least=5 * MIB), 2 << 30, 10 * MIB),
        (able(most=4 * MIB), 1 << 30, 4 * MIB),
        (able(multiple=3 * MIB), 1, 9 * MIB),
        (able(multiple=16 * MIB), 1, 16 * MIB),
        (able(least=64 * MIB), 1, 64 * MIB),
        (able(multiple=327_680), 200 << 30, 66 * 327_680),
    ],
)
def test_parts_have_ten_mebibytes_unless_the_provider_or_the_size_asks_for_others(
    provider: Capabilities, size: int, expected: int
) -> None:
    assert part_size(provider, size) == expected


def test_what_no_number_of_parts_can_carry_is_refused() -> None:
    with pytest.raises(TooLarge, match="10000 parts"):
        part_size(able(most=4 * MIB), 4 * MIB * PARTS_MAX + 1)
    assert part_size(able(most=4 * MIB), 4 * MIB * PARTS_MAX) == 4 * MIB
    with pytest.raises(TooLarge):
        part_size(able(multiple=16 * MIB, most=10 * MIB), 1)


@given(
    multiple=st.sampled_from([1, 262_144, 327_680]), least=st.sampled_from([1, 5 * MIB]), size=st.integers(0, 40 << 40)
)
def test_parts_fit_the_provider_whatever_the_size(multiple: int, least: int, size: int) -> None:
    part = part_size(able(multiple=multiple, least=least), size)
    assert part % multiple == 0
    assert max(least, PART_BYTES // 2) <= part <= 5 << 30
    assert part * PARTS_MAX >= size


@given(st.integers(0, 100), st.integers(1, 30), st.booleans(), st.data())
def test_what_is_missing_and_what_was_there_make_the_whole(
    size: int, part: int, in_order: bool, data: st.DataObject
) -> None:
    had: list[Part] = []
    if in_order:
        had = [Part(0, data.draw(st.integers(0, size)))]
    else:
        for start in range(0, size, part):
            if data.draw(st.booleans()):
                had.append(Part(start, min(start + part, size), "r"))
    plan = TransferPlan(size, part, in_order=in_order, had=had)
    assert plan.brought == sum(one.end - one.start for one in had)
    for start, end in plan.cuts():
        missing = plan.missing(start, end)
        if missing is not None:
            assert start <= missing[0] <= missing[1] == end
            plan.has(Part(*missing, "r"))
    assert plan.brought == size
    at = 0
    for one in plan.parts():
        assert one.start == at
        at = one.end
    assert at == size


def test_a_part_of_another_cut_is_brought_again() -> None:
    plan = TransferPlan(100, 30, in_order=False, had=[Part(0, 30), Part(30, 50), Part(55, 60), Part(80, 100)])
    assert [cut for cut in plan.cuts() if plan.missing(*cut)] == [(30, 60), (60, 90), (90, 100)]
    assert plan.brought == 30


def test_smaller_parts_that_make_up_one_of_the_cut_are_as_good() -> None:
    had = [Part(4, 8), Part(0, 4, "a"), Part(8, 10), Part(0, 3, "b"), Part(10, 20)]
    plan = TransferPlan(25, 10, in_order=False, had=had)
    assert [cut for cut in plan.cuts() if plan.missing(*cut)] == [(20, 25)]
    assert plan.parts() == [Part(0, 4, "a"), Part(4, 8), Part(8, 10), Part(10, 20)]


def test_in_order_only_the_unbroken_beginning_counts() -> None:
    assert unbroken([Part(20, 30), Part(0, 10), Part(5, 15)]) == 15
    assert unbroken([]) == 0
    assert unbroken([Part(5, 15)]) == 0


def test_patience_counts_failures_and_not_being_told_to_come_back() -> None:
    patience = Patience(tries=3, total_s=100, base_s=1, cap_s=10)
    rand = Random(1)
    assert patience.wait_s(made=2, spent_s=0, rand=rand) is not None
    assert patience.wait_s(made=3, spent_s=0, rand=rand) is None
    told = patience.wait_s(made=50, spent_s=0, rand=rand, retry_after_s=20)
    assert told is not None
    assert 20 <= told <= 21
    assert patience.wait_s(made=0, spent_s=99.5, rand=rand, retry_after_s=20) is None, "but not for ever"
