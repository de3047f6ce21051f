from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.schedule_rules import EVERY_MAX_S, EVERY_MIN_S, Rule, WrongRule

moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def test_a_rule_holds_in_its_time_zone_with_its_summer_time() -> None:
    rule = Rule("30 6 * * MON-FRI", None, "Europe/Berlin")
    assert rule.next_after(at("2026-03-27T05:30:00+00:00")) == at("2026-03-30T04:30:00+00:00")
    assert rule.next_after(at("2026-03-26T12:00:00+00:00")) == at("2026-03-27T05:30:00+00:00")


def test_a_time_that_the_clocks_leave_out_comes_right_after_and_one_that_comes_twice_is_met_once() -> None:
    rule = Rule("30 2 * * *", None, "Europe/Berlin")
    assert rule.next_after(at("2026-03-29T00:00:00+01:00")) == at("2026-03-29T03:00:00+02:00")
    first = rule.next_after(at("2026-10-25T00:00:00+02:00"))
    assert first == at("2026-10-25T02:30:00+02:00")
    assert rule.next_after(first) == at("2026-10-26T02:30:00+01:00")


@given(moments, st.integers(EVERY_MIN_S, EVERY_MAX_S), st.integers(0, 10**7))
def test_what_is_due_every_so_often_keeps_its_step_past_missed_ones(last: datetime, every: int, late_s: int) -> None:
    now = last + timedelta(seconds=late_s)
    following = Rule(None, every).next_after(now, last)
    assert now < following <= now + timedelta(seconds=every)
    assert (following - last) % timedelta(seconds=every) == timedelta(0)


@given(moments, st.sampled_from(["* * * * *", "*/7 3 * * *", "0 0 L * *", "0 12 1 1 *", "5 4 * * SUN#2"]))
def test_the_next_time_is_always_later(now: datetime, cron: str) -> None:
    assert Rule(cron, None, "America/New_York").next_after(now) > now


@pytest.mark.parametrize(
    ("cron", "every_s", "zone", "field"),
    [
        (None, None, "UTC", "cron"), ("* * * * *", 60, "UTC", "cron"), ("* * * *", None, "UTC", "cron"),
        ("* * * * * *", None, "UTC", "cron"), ("61 * * * *", None, "UTC", "cron"), ("0 0 30 2 *", None, "UTC", "cron"),
        ("* * * * " + "*" * 200, None, "UTC", "cron"), (None, 9, "UTC", "every_s"), (None, 10**9, "UTC", "every_s"),
        (None, 60, "Mars/Olympus", "timezone"), (None, 60, "../../etc/passwd", "timezone"), (None, 60, "", "timezone"),
        (None, 60, "a\x00b", "timezone"),
    ],
)  # fmt: skip
def test_a_rule_that_cannot_be_followed_is_refused_by_name(
    cron: str | None, every_s: int | None, zone: str, field: str
) -> None:
    with pytest.raises(WrongRule) as refused:
        Rule(cron, every_s, zone)
    assert refused.value.field == field
