"""The waterfall as it is printed, and what is asked of the API."""

from typing import Any

import pytest

from infra.commands import trace
from infra.commands.errors import CommandFailed

FOUND: dict[str, Any] = {
    "device_id": "truck-7",
    "job_id": "0198b7c2-0000-7000-8000-0000000000b1",
    "name": "load.jpg",
    "event_id": None,
    "seq": None,
    "trace_id": "ab" * 16,
    "stages": [
        {"stage": "detected", "at": "2026-11-21T08:30:00.000000Z", "lag_s": 0.0, "exact": True},
        {"stage": "queued", "at": "2026-11-21T08:30:00.010000Z", "lag_s": 0.01, "exact": True},
        {"stage": "claimed", "at": "2026-11-21T08:30:00.020000Z", "lag_s": 0.01, "exact": False},
    ],
    "at": {
        "place": "running",
        "since": "2026-11-21T08:30:00.020000Z",
        "for_s": 41.2,
        "holder": "worker-1",
        "stuck": "worker-1 has been silent for 38 s; its lease ends in 22 s",
    },
}


def test_each_stage_has_its_lag_and_a_bar_where_it_lies() -> None:
    title, detected, queued, claimed, now, stuck = trace.waterfall(FOUND).split("\n")
    assert title == f"truck-7  load.jpg  trace {'ab' * 16}"
    assert detected.split() == ["detected", "0.0", "ms", "+0.0", "▏"]
    assert queued.rstrip().endswith("+10.0  " + "█" * 20)
    assert claimed.endswith("+10.0  " + " " * 20 + "█" * 20 + "  (by then)")
    assert now == "  now: running since 2026-11-21T08:30:00.020000Z (41.2 s), held by worker-1"
    assert stuck == "  STUCK: worker-1 has been silent for 38 s; its lease ends in 22 s"


def test_what_is_no_jobs_id_needs_a_device() -> None:
    assert trace._path(FOUND["job_id"].upper(), None) == (f"/api/v1/jobs/{FOUND['job_id']}/trace", {})
    assert trace._path("a b", "../truck") == ("/api/v1/devices/..%2Ftruck/trace", {"of": "a b"})
    with pytest.raises(CommandFailed, match="--device"):
        trace._path("load.jpg", None)
