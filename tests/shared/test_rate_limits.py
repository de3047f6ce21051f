from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.rate_limits import GLOBAL, Asked, Limit, Limits, LocalBuckets, Verdict, policy_field, quota_field

LIMITS = Limits(MappingProxyType({"truck": 50, "office": 500}), device=100, operator=600, service=0, all_per_s=1000)
TRUCK = Limit("truck", 50, 50 / 60)


@pytest.mark.parametrize(
    ("kind", "device_class", "expected"),
    [
        ("device", "truck", TRUCK),
        ("device", "office", Limit("office", 500, 500 / 60)),
        ("device", "crane", Limit("device", 100, 100 / 60)),
        ("device", None, Limit("device", 100, 100 / 60)),
        ("operator", None, Limit("operator", 600, 10)),
        ("operator", "truck", Limit("operator", 600, 10)),
        ("service", None, None),
    ],
)
def test_the_class_of_a_device_names_its_bucket(kind: str, device_class: str | None, expected: Limit | None) -> None:
    assert LIMITS.of(kind, device_class) == expected


def test_fields_say_whole_tokens_and_when_there_is_one_more() -> None:
    assert policy_field(TRUCK) == '"truck";q=50;w=60'
    assert quota_field(TRUCK, Verdict(None, 49.0, 0.0)) == '"truck";r=49;t=2'
    assert quota_field(TRUCK, Verdict(None, 12.9, 0.0)) == '"truck";r=12;t=1'
    assert quota_field(TRUCK, Verdict("truck", 0.4, 7.3)) == '"truck";r=0;t=8'
    assert quota_field(TRUCK, Verdict(GLOBAL, 3.0, 0.3)) == '"truck";r=3;t=2'


def test_two_instances_together_let_through_what_one_bucket_would() -> None:
    both = [LocalBuckets(), LocalBuckets()]
    passed = 0
    for second in range(120):
        for bucket in both:
            for _ in range(5):
                verdict = bucket.take(Asked("device:a", TRUCK, 1), None, float(second), instances=2)
                passed += verdict.refused_by is None
    assert 50 + 119 * 50 / 60 - 2 <= passed <= 50 + 119 * 50 / 60


def test_the_wait_that_is_named_is_enough_and_no_longer_than_needed() -> None:
    buckets = LocalBuckets()
    for _ in range(50):
        assert buckets.take(Asked("device:a", TRUCK, 1), None, 0.0, instances=1).refused_by is None
    refused = buckets.take(Asked("device:a", TRUCK, 1), None, 0.0, instances=1)
    assert refused.refused_by == "truck"
    assert refused.wait_s == pytest.approx(1.2)
    assert buckets.take(Asked("device:a", TRUCK, 1), None, 1.19, instances=1).refused_by == "truck"
    assert buckets.take(Asked("device:a", TRUCK, 1), None, 1.2001, instances=1).refused_by is None


def test_who_is_refused_by_the_shared_bucket_keeps_its_own_tokens() -> None:
    buckets, shared = LocalBuckets(), Limit(GLOBAL, 2, 2)
    verdicts = [buckets.take(Asked(f"device:{n}", TRUCK, 1), shared, 0.0, instances=1) for n in range(3)]
    assert [one.refused_by for one in verdicts] == [None, None, GLOBAL]
    assert verdicts[2].left == 50
    assert verdicts[2].wait_s == pytest.approx(0.5)


def test_what_costs_more_than_a_bucket_holds_costs_a_whole_bucket() -> None:
    buckets = LocalBuckets()
    assert buckets.take(Asked("device:a", TRUCK, 500), None, 0.0, instances=100).refused_by is None
    assert buckets.take(Asked("device:a", TRUCK, 1), None, 0.0, instances=100).refused_by == "truck"


def test_a_share_that_changes_gives_nobody_new_tokens() -> None:
    buckets = LocalBuckets()
    for _ in range(25):
        buckets.take(Asked("device:a", TRUCK, 1), None, 0.0, instances=2)
    assert buckets.take(Asked("device:a", TRUCK, 1), None, 0.0, instances=2).refused_by == "truck"
    assert buckets.take(Asked("device:a", TRUCK, 1), None, 0.0, instances=1).refused_by == "truck"


def test_a_share_begins_with_its_part_of_what_was_left_elsewhere() -> None:
    local = LocalBuckets(principals_max=2)
    asked = Asked("device:a", TRUCK, 1)

    def passed(now: float, instances: int = 2) -> int:
        return sum(local.take(asked, None, now, instances=instances).refused_by is None for _ in range(60))

    local.learn(asked, 10.0, 0.0)
    assert passed(0.0) == 5
    local.learn(asked, 10.0, 0.0)
    assert passed(24.0) == 15, "tokens come meanwhile, too"
    local.learn(asked, 25.0, 24.0)
    assert passed(24.0) == 25, "who had half left has a whole share"
    local.learn(asked, 0.0, 24.0)
    assert passed(24.0) == 0, "what was taken from an earlier share says nothing any more"
    local.learn(asked, 0.0, 24.0)
    for other in "bc":
        local.learn(asked._replace(principal=f"device:{other}"), 0.0, 24.0)
    assert passed(24.0) == 25, "of too many the first is forgotten"


def test_of_too_many_principals_those_not_heard_for_longest_are_forgotten() -> None:
    buckets = LocalBuckets(principals_max=3)
    for name in "abcad":
        buckets.take(Asked(name, TRUCK, 1), None, 0.0, instances=1)
    assert len(buckets) == 3
    assert buckets.take(Asked("a", TRUCK, 1), None, 0.0, instances=1).left == 47
    assert buckets.take(Asked("b", TRUCK, 1), None, 0.0, instances=1).left == 49


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 4), st.floats(0.1, 3)), max_size=60))
def test_never_more_passes_than_the_bucket_and_what_came_in(steps: list[tuple[float, int, float]]) -> None:
    buckets, now, spent = LocalBuckets(), 0.0, 0.0
    for pause, instances, cost in steps:
        now += pause
        if buckets.take(Asked("device:a", TRUCK, cost), None, now, instances=instances).refused_by is None:
            spent += cost
    assert spent <= 50 + now * 50 / 60 + 1e-6
