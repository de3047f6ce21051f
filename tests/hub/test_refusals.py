"""Refusals as HTTP: a problem body, and the headers that say how to come back."""

import json

import pytest

from hub.refusals import REFUSALS, Refusal


@pytest.mark.parametrize("slug", sorted(REFUSALS))
def test_every_refusal_is_a_problem_with_the_request_id(slug: str) -> None:
    refusal = Refusal(slug, "because", field="after")
    problem = json.loads(refusal.body("request-1"))
    assert problem == {
        "type": f"urn:fleetwire:problem:{slug}",
        "title": REFUSALS[slug].title,
        "status": refusal.status,
        "detail": "because",
        "request_id": "request-1",
        "field": "after",
    }
    assert refusal.headers(luck=0.5)["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("slug", [slug for slug, kind in REFUSALS.items() if kind.status in (429, 503)])
def test_those_sent_away_for_a_while_return_spread_over_a_range(slug: str) -> None:
    refusal = Refusal(slug, "because")
    waits = {int(refusal.headers(luck=luck / 100)["Retry-After"]) for luck in range(101)}
    assert len(waits) >= 3
    assert min(waits) >= 1


def test_statuses_carry_the_headers_http_wants() -> None:
    assert Refusal("unauthorized", "").headers(luck=0)["WWW-Authenticate"] == "Bearer"
    assert Refusal("upgrade-required", "").headers(luck=0)["Upgrade"] == "websocket"
    assert Refusal("method-not-allowed", "").headers(luck=0)["Allow"] == "GET"
