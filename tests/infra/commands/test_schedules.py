"""`fleetwire schedules …`, against a real API."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from infra.commands import schedules
from infra.commands.errors import CommandFailed
from tests.infra.commands import test_jobs

api, pool, start_api, environ, trucks = (
    test_jobs.api, test_jobs.pool, test_jobs.start_api, test_jobs.environ, test_jobs.trucks,
)  # fmt: skip


async def run(command: Any, *given: Any, **named: Any) -> Any:
    return await asyncio.to_thread(command, *given, **named)


def add(environ: dict[str, str], name: str, **changes: Any) -> int:
    given: dict[str, Any] = {
        "cron": "30 6 * * *", "every_s": None, "timezone": "Europe/Berlin", "devices": ["truck-7"], "kind": "table",
        "request": "load.csv", "data": "a,b\n", "file": None, "priority": None,
    }  # fmt: skip
    return schedules.add(environ, name, **given | changes)


async def test_schedules_are_added_listed_paused_resumed_and_removed(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "body.csv").write_text("x\n")
    assert await run(add, environ, "daily") == 0
    often: dict[str, Any] = {"cron": None, "every_s": 60, "data": None, "file": tmp_path / "body.csv"}
    assert await run(add, environ, "often", **often, devices=["truck-7", "truck-8"]) == 0
    assert await run(schedules.switch, environ, "often", enabled=False) == 0
    capsys.readouterr()
    assert await run(schedules.ls, environ, as_json=True) == 0
    (said,) = test_jobs.printed(capsys)
    listed = json.loads(said)["schedules"]
    assert [(one["schedule"], one["data"], one["enabled"]) for one in listed] == [
        ("daily", "a,b\n", True), ("often", "x\n", False),
    ]  # fmt: skip
    assert await run(schedules.ls, environ, as_json=False) == 0
    shown = capsys.readouterr().out
    assert "paused" in shown
    assert "2 devices" in shown
    assert await run(schedules.switch, environ, "often", enabled=True) == 0
    assert await run(schedules.remove, environ, ["daily", "often"]) == 0
    capsys.readouterr()
    await run(schedules.ls, environ, as_json=True)
    assert json.loads(test_jobs.printed(capsys)[0]) == {"schedules": []}


async def test_what_cannot_be_done_is_said(environ: dict[str, str], tmp_path: Path) -> None:
    for changes, said in (
        ({"data": None}, "--data"), ({"data": None, "file": tmp_path / "none"}, "cannot be read"),
        ({"cron": "x"}, "five fields"), ({"devices": ["nobody"]}, "no device nobody"),
    ):  # fmt: skip
        with pytest.raises(CommandFailed, match=said):
            await run(add, environ, "daily", **changes)
