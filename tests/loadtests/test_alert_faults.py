"""No alert is without a fault that fires it, and what fired is known by when and for whom it did."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from infra.prometheus import rules
from loadtests.alert_fault_list import FAULTS
from loadtests.alert_faults import page_has
from loadtests.prometheus_server import Prometheus

ALERTS = [rule["alert"] for group in rules.made()["alerts.yml"] for rule in group["rules"]]


def test_every_alert_is_fired_by_one_fault() -> None:
    assert sorted(rules.PREFIX + name for fault in FAULTS for name in fault.alerts) == sorted(ALERTS)


def test_a_page_counts_only_with_a_heading_for_the_alert() -> None:
    assert page_has("docs/runbooks/bus.md#fleetwirehubdeaf", "FleetwireHubDeaf")
    assert not page_has("docs/runbooks/bus.md#fleetwirehubdeaf", "FleetwireLogLost")
    assert not page_has("docs/runbooks/nowhere.md", "FleetwireHubDeaf")
    assert not page_has("", "FleetwireHubDeaf")


@pytest.mark.parametrize("moment", ["2026-11-22T10:00:00.123456789Z", "2026-11-22T10:00:00.1Z", "2026-11-22T10:00:00Z"])
async def test_alerts_are_kept_once_with_the_moment_they_began_to_fire(tmp_path: Path, moment: str) -> None:
    prometheus = Prometheus("http://nowhere", tmp_path, 60)
    hearing = Starlette(routes=[Route("/api/v2/alerts", prometheus.hear, methods=["POST"])])
    alert: dict[str, Any] = {"labels": {"alertname": "A", "job": "x"}, "annotations": {}, "startsAt": moment}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(hearing), base_url="http://here") as client:
        for _ in range(3):
            assert (await client.post("/api/v2/alerts", json=[alert])).status_code == 200
    (told,) = prometheus.told
    assert 0 <= told.since - 1795341600 < 1
    assert prometheus.heard("A", told.since) == told
    assert prometheus.heard("A", told.since + 1) is None
    assert prometheus.heard("B", 0) is None
    await prometheus.client.aclose()


async def test_what_prometheus_is_told_to_watch_is_every_port_of_the_kind(tmp_path: Path) -> None:
    prometheus = Prometheus("http://nowhere", tmp_path, 60)
    prometheus.configure("http://127.0.0.1:9")
    prometheus.watch("hub", [1, 2])
    assert '"127.0.0.1:1", "127.0.0.1:2"' in (tmp_path / "hub.json").read_text()
    assert "[1m]" in (tmp_path / "recorded.yml").read_text()
    await prometheus.client.aclose()
