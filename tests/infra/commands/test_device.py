"""`fleetwire device`, against a server that speaks the documented wire."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from device import Timing
from infra.command_settings import CommandSettings
from infra.commands import device
from infra.commands.errors import CommandFailed
from infra.onebox.home import Home
from infra.onebox.keys import development_keys
from shared.keys import read_key_ring
from shared.settings import SettingsError, load
from tests.device.fleet import Fleet

FAST = Timing().faster(20)
CONTENT = b"a,b\n1,2\n"


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    async with Fleet().running() as running:
        yield running


async def run(fleet: Fleet, home: Home, *, inbox: Path | None = None, count: int = 1, **environ: str) -> int:
    environ = {"FLEETWIRE_HOME": str(home.path), "FLEETWIRE_API_URL": fleet.api_url, **environ}
    running = asyncio.to_thread(
        device.run, environ, "truck-7", device_class="truck", inbox=inbox, count=count, timing=FAST
    )
    return await asyncio.wait_for(running, 30)


def ready(fleet: Fleet, **data: Any) -> dict[str, Any]:
    return {"job_id": "job-1", "request": {"name": "load.csv"}, "files": [fleet.file("summary.json", CONTENT)], **data}


async def test_files_and_the_place_in_the_log_are_kept_in_the_home(
    fleet: Fleet, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    await fleet.publish(1, data=ready(fleet))
    assert await run(fleet, home, FLEETWIRE_TOKEN=fleet.token) == 0
    kept = home.path / "devices" / "truck-7"
    assert (kept / "inbox" / "load.job-1" / "summary.json").read_bytes() == CONTENT
    assert (kept / "truck-7.position").exists()
    shown = capsys.readouterr()
    assert "ResponseReady  1:1  event-1  for load.csv" in shown.out
    assert f"files are saved in {kept / 'inbox'}" in shown.err
    await fleet.publish(1, data=ready(fleet, job_id="job-2"))
    assert await run(fleet, home, FLEETWIRE_TOKEN=fleet.token) == 0
    assert "event-1" not in capsys.readouterr().out, "the second run goes on where the first one ended"
    assert fleet.acked == 2


async def test_an_inbox_of_ones_own_takes_the_files_and_nothing_else(fleet: Fleet, home: Home, tmp_path: Path) -> None:
    await fleet.publish(1, data=ready(fleet))
    assert await run(fleet, home, inbox=tmp_path / "inbox", FLEETWIRE_TOKEN=fleet.token) == 0
    assert [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()] == [
        Path("inbox/load.job-1/summary.json")
    ]
    assert (home.path / "devices" / "truck-7" / "truck-7.position").exists()


async def test_a_network_that_fails_during_a_download_does_not_end_it(
    fleet: Fleet, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await fleet.publish(1, data=ready(fleet))
    fleet.store_answers = [(500, {}, b"")] * 9  # more than one download bears
    assert await run(fleet, home, inbox=tmp_path, FLEETWIRE_TOKEN=fleet.token) == 0
    assert (tmp_path / "load.job-1" / "summary.json").read_bytes() == CONTENT
    assert "not saved" not in capsys.readouterr().out
    assert fleet.acked == 1


async def test_what_ends_the_device_is_said_and_is_an_exit_code(
    fleet: Fleet, home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await run(fleet, home, FLEETWIRE_TOKEN="wrong") == 1
    shown = capsys.readouterr()
    assert "token" in shown.out
    assert "Traceback" not in shown.err


def test_without_a_token_it_makes_its_own_with_the_keys_of_the_home(home: Home) -> None:
    development_keys(home)
    environ = {"FLEETWIRE_HOME": str(home.path)}
    token = device.device_token(load(CommandSettings, environ), "truck-7", "office")
    assert callable(token)
    claims = read_key_ring(development_keys(home).tokens_public, None).verify(token(), now=time.time())
    assert (claims.subject, claims.device_class, claims.scopes) == ("truck-7", "office", frozenset({"device"}))


def test_what_cannot_work_is_named_before_anything_is_made(home: Home) -> None:
    environ = {"FLEETWIRE_HOME": str(home.path), "FLEETWIRE_TOKEN": "x"}
    with pytest.raises(CommandFailed, match="--class"):
        device.run(environ, "truck-7", device_class="Lorry!", inbox=None, count=0)
    with pytest.raises(SettingsError, match="FLEETWIRE_API_URL"):
        device.run(environ, "truck-7", device_class="truck", inbox=None, count=0)
    assert not (home.path / "devices").exists()
