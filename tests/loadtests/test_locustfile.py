"""Locust as a process, with devices on gevent: it passes when all is shown, and fails by what a device never got."""

import json
from pathlib import Path

import pytest

from tests.loadtests.conftest import Driven
from tests.loadtests.processes import run_python
from tests.loadtests.withholding_proxy import Withhold, WithholdingProxy

LOCUSTFILE = Path(__file__).parents[2] / "loadtests" / "locustfile.py"


async def run_locust(
    driven: Driven, folder: Path, withhold: Withhold, *options: str
) -> tuple[int, str, dict[str, object]]:
    async with WithholdingProxy(driven.hub, driven.proxy_port, withhold):
        status, said = await run_python(
            *("-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--only-summary"),
            *("-u", "10", "-r", "20", "-t", "3s", "--event-rate", "100", "--settle", "15", "--results", str(folder)),
            *options,
            environ={"FLEETWIRE_HOME": driven.home},
        )
    (file,) = folder.glob("locust-*.json")
    return status, said, json.loads(file.read_text())


@pytest.mark.processes
async def test_a_run_passes_when_a_hole_is_seen_and_mended_and_says_how_late_events_were(
    driven: Driven, tmp_path: Path
) -> None:
    withheld: list[str] = []

    def withhold_once(device_id: str, seq: int) -> bool:
        if not device_id.endswith("-7") or seq != 2 or withheld:
            return False
        withheld.append(device_id)
        return True

    status, said, figures = await run_locust(driven, tmp_path, withhold_once)
    assert status == 0, said
    assert withheld
    assert figures["sockets"] == 11  # one device came back for what it had missed
    assert "10 of 10 devices connected" in said
    assert "0 lost, 0 repeated, 0 out of order" in said
    assert "event delivered" in said  # a row of Locust's own table
    assert figures["verdict"]["recorded"] == figures["delivered"]["count"] > 40  # type: ignore[index]


@pytest.mark.processes
async def test_a_run_fails_by_events_that_one_device_never_gets(driven: Driven, tmp_path: Path) -> None:
    status, said, figures = await run_locust(
        driven, tmp_path, lambda device_id, seq: device_id.endswith("-7") and seq >= 2, "--settle", "1"
    )
    assert status == 1, said
    assert figures["verdict"]["lost"] >= 1  # type: ignore[index]
    assert figures["passed"] is False


@pytest.mark.processes
async def test_devices_that_are_taken_away_were_shown_all_that_they_were_sent(driven: Driven, tmp_path: Path) -> None:
    status, said, figures = await run_locust(
        driven, tmp_path, lambda device_id, seq: False, "--shape", "ramp", "-t", "4s"
    )
    assert status == 0, said
    assert "0 lost, 0 repeated, 0 out of order" in said
    assert figures["connected"] == 10
    assert "updating to 1 users" in said


@pytest.mark.processes
async def test_devices_whose_links_are_all_cut_at_once_come_back(driven: Driven, tmp_path: Path) -> None:
    status, said, figures = await run_locust(
        driven, tmp_path, lambda device_id, seq: False, "--shape", "storm", "-t", "5s"
    )
    assert status == 0, said
    assert figures["storm_devices"] == 10
    assert figures["sockets"] == 20


async def test_it_does_not_begin_without_a_set_up(tmp_path: Path) -> None:
    status, said = await run_python(
        *("-m", "locust", "-f", str(LOCUSTFILE), "--headless", "-t", "1s"),
        environ={"FLEETWIRE_HOME": str(tmp_path / "none")},
    )
    assert status == 2
    assert "nothing runs here" in said
    assert "FLEETWIRE_API_URL" in said
