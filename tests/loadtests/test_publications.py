"""What a load run publishes: at its rate, in turn, and held to what the API answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.driver.history import History
from loadtests.driver.publications import BATCH_MAX, Publications, PublishRefused, read_answer


def recorded(seq: int) -> dict[str, str]:
    return {"status": "recorded", "position": f"1:{seq}"}


def made(rate: float = 10.0) -> tuple[History, Publications]:
    history = History()
    return history, Publications(history, run="r", rate=rate)


@given(st.floats(0.1, 400), st.lists(st.floats(0, 1), max_size=50))
def test_the_rate_is_kept_over_any_pauses(rate: float, pauses: list[float]) -> None:
    _, publications = made(rate)
    now, count = 100.0, len(publications.due(["a"], now=100.0, sent_ns=0))
    for pause in pauses:
        now += pause
        count += len(publications.due(["a"], now=now, sent_ns=0))
    assert count == int((now - 100.0) * rate)


def test_devices_take_turns_and_the_clock_begins_with_the_first_device() -> None:
    _, publications = made()
    assert publications.due([], now=0, sent_ns=0) == []
    assert publications.due(["a", "b"], now=50, sent_ns=0) == []
    batch = publications.due(["a", "b"], now=50.35, sent_ns=7)
    assert [(item["device_id"], item["id"], item["data"]) for item in batch] == [
        ("a", "r-0", {"sent_ns": 7}),
        ("b", "r-1", {"sent_ns": 7}),
        ("a", "r-2", {"sent_ns": 7}),
    ]
    assert publications.late_s == pytest.approx(0.25)


def test_a_request_holds_no_more_than_the_api_takes() -> None:
    _, publications = made(rate=100_000)
    publications.due(["a"], now=0, sent_ns=0)
    assert len(publications.due(["a"], now=1, sent_ns=0)) == BATCH_MAX


def test_what_is_recorded_is_in_the_history_in_the_order_of_the_log() -> None:
    history, publications = made()
    publications.due(["a"], now=0, sent_ns=0)
    batch = publications.due(["a"], now=0.2, sent_ns=0)
    publications.answered(batch, [recorded(1), recorded(2)])
    for event_id in ("r-1", "r-0"):
        history.shown("a", event_id)
    assert publications.recorded == 2
    assert history.judge().out_of_order == 1


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([recorded(1)], "2 items were published and 1 results"),
        ([recorded(1), {"status": "unknown_device"}], "a/r-1 was not recorded"),
        ([recorded(1), {"status": "recorded"}], "recorded at no position"),
        ([recorded(2), recorded(1)], "recorded at 1:1, after 1:2"),
        ([recorded(1), recorded(1)], "recorded at 1:1, after 1:1"),
        ([recorded(1), {"status": "duplicate"}], "a/r-1 was not recorded"),
    ],
)
def test_an_answer_that_cannot_be_ends_the_run(results: list[dict[str, str]], said: str) -> None:
    _, publications = made()
    publications.due(["a"], now=0, sent_ns=0)
    batch = publications.due(["a"], now=0.2, sent_ns=0)
    with pytest.raises(PublishRefused, match=said):
        publications.answered(batch, results)


def test_a_duplicate_counts_as_recorded_once_a_request_was_repeated() -> None:
    history, publications = made()
    publications.due(["a"], now=0, sent_ns=0)
    batch = publications.due(["a"], now=0.1, sent_ns=0)
    publications.repeated_requests += 1
    publications.answered(batch, [{"status": "duplicate"}])
    assert history.judge().lost == 1  # recorded, and not shown


def test_an_answer_is_taken_repeated_or_final() -> None:
    assert read_answer(200, '{"results": [{"status": "recorded"}]}') == [{"status": "recorded"}]
    assert read_answer(503, "busy") is None
    assert read_answer(429, "slower") is None
    assert read_answer(0, "") is None  # no answer at all
    with pytest.raises(PublishRefused, match="HTTP 403: no"):
        read_answer(403, "no")
