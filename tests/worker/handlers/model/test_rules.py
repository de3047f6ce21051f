"""What statuses mean, what they may cost, and that no secret passes."""

import pytest

from worker.handlers.model.rules import PAUSE_MAX_S, Meaning, Verdict, judge, pause_of, redacted


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (429, "rate_limit_exceeded", Verdict(Meaning.AGAIN)),
        (429, "insufficient_quota", Verdict(Meaning.SET_UP)),
        (500, "", Verdict(Meaning.AGAIN)),
        (503, "", Verdict(Meaning.AGAIN)),
        (502, "", Verdict(Meaning.AGAIN, may_cost=True)),
        (504, "", Verdict(Meaning.AGAIN, may_cost=True)),
        (599, "", Verdict(Meaning.AGAIN, may_cost=True)),
        (400, "", Verdict(Meaning.REFUSED)),
        (400, "context_length_exceeded", Verdict(Meaning.TOO_LARGE)),
        (413, "", Verdict(Meaning.TOO_LARGE)),
        (422, "", Verdict(Meaning.REFUSED)),
        (401, "", Verdict(Meaning.SET_UP)),
        (404, "model_not_found", Verdict(Meaning.SET_UP)),
        (302, "", Verdict(Meaning.SET_UP)),
        (204, "", Verdict(Meaning.SET_UP)),
    ],
)
def test_statuses(status: int, code: str, verdict: Verdict) -> None:
    assert judge(status, code) == verdict


def test_a_pause_is_what_the_server_says_within_bounds() -> None:
    assert pause_of("3") == 3
    assert pause_of("3", "250") == 0.25
    assert pause_of("999999999") == PAUSE_MAX_S
    assert pause_of(None) == pause_of("soon") == pause_of("-1") == pause_of("nan") == 0


def test_secrets_and_what_looks_like_one_are_taken_out() -> None:
    text = "Incorrect API key provided: my-own-key. Also sk-abcdef123456, Bearer xyz.\nAnd sk-ab***yz"
    shown = redacted(text, "my-own-key")
    assert "my-own-key" not in shown
    assert "abcdef" not in shown
    assert "xyz" not in shown
    assert "\n" not in shown
    assert len(redacted("x" * 1000)) == 200
