"""What is taken for a traceparent, and which files are traced."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.event import encode_event
from shared.traceparent import SAMPLED_END, of_event, of_job, parse

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        GOOD.upper(),
        GOOD + "-more",
        GOOD + "\n",
        "ff" + GOOD[2:],
        "01" + GOOD[2:],
        GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", "0" * 32),
        GOOD.replace("00f067aa0ba902b7", "0" * 16),
        GOOD[:-1] + "g",
        GOOD.replace("-", "_"),
    ],
)
def test_what_is_not_a_traceparent_is_none(text: str | None) -> None:
    assert parse(text) is None


@given(st.uuids(), st.floats(0, 1))
def test_what_is_made_for_a_job_is_valid_and_the_same_each_time(job_id: UUID, sample: float) -> None:
    made = of_job(job_id, sample)
    assert made == of_job(job_id, sample)
    if made is not None and job_id.int:
        assert parse(str(made)) == made
        assert made.is_sampled
        assert made.trace_id == job_id.int


def test_the_share_that_is_asked_for_is_traced() -> None:
    ids = [uuid4() for _ in range(2000)]
    assert sum(of_job(one, 0) is not None for one in ids) == 0
    assert sum(of_job(one, 1) is not None for one in ids) == 2000
    assert 400 < sum(of_job(one, 0.3) is not None for one in ids) < 800


@given(st.dictionaries(st.text(), st.text() | st.integers(-1000, 1000), max_size=5))
def test_an_event_gives_its_own_traceparent_and_never_what_its_data_look_like(data: dict[str, object]) -> None:
    def encoded(traceparent: str | None, **more: object) -> bytes:
        return encode_event(
            event_id="e",
            event_type="T",
            source="/s",
            time="2026-11-21T08:30:00Z",
            data=data | more,
            traceparent=traceparent,
        )

    assert of_event(encoded(GOOD)) == parse(GOOD)
    assert encoded(GOOD).endswith(SAMPLED_END)
    assert of_event(encoded(None)) is None
    assert of_event(encoded(None, z=f',"traceparent":"{GOOD}"}}')) is None
    assert not encoded(None, z="01").endswith(SAMPLED_END)
