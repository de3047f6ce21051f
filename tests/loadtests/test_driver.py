"""The driver as a process: it passes when all is shown, and says what it missed."""

import json
from pathlib import Path

import pytest

from loadtests.driver.__main__ import main
from tests.loadtests.conftest import Driven
from tests.loadtests.processes import run_python
from tests.loadtests.withholding_proxy import WithholdingProxy

QUICK = ("--devices", "20", "--rate", "60", "--seconds", "1.5", "--settle", "1")


def figures(folder: Path) -> dict[str, object]:
    (file,) = folder.glob("driver-*.json")
    found: dict[str, object] = json.loads(file.read_text())
    return found


@pytest.mark.processes
async def test_a_run_that_shows_every_event_passes_and_saves_its_figures(driven: Driven, tmp_path: Path) -> None:
    status, said = await run_python("-m", "loadtests.driver", "--home", driven.home, "--results", str(tmp_path), *QUICK)
    assert status == 0, said
    assert "0 lost, 0 repeated, 0 out of order" in said
    assert "p50" in said
    assert "p99.9" in said
    saved = figures(tmp_path)
    assert saved["passed"] is True
    assert saved["verdict"]["recorded"] == saved["delivered"]["count"] >= 80  # type: ignore[index]


@pytest.mark.processes
async def test_a_run_fails_by_one_event_that_is_withheld(driven: Driven, tmp_path: Path) -> None:
    def withhold(device_id: str, seq: int) -> bool:
        return device_id.endswith("-7") and seq == 2

    async with WithholdingProxy(driven.hub, driven.proxy_port, withhold) as proxy:
        hub = f"ws://127.0.0.1:{driven.proxy_port}"
        status, said = await run_python(
            "-m", "loadtests.driver", "--home", driven.home, "--hub", hub, "--results", str(tmp_path), *QUICK
        )
    assert proxy.withheld == 1
    assert status == 1, said
    assert "1 lost, 0 repeated, 0 out of order" in said
    assert figures(tmp_path)["passed"] is False


def test_it_does_not_begin_without_a_set_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path / "none"), "--devices", "1"]) == 2
    assert "--own" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("--devices", "0"), ("--rate", "nan"), ("--seconds", "-1"), ("--rate", "inf")])
def test_an_option_that_cannot_be_is_named(wrong: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*wrong])
    assert wrong[0] in capsys.readouterr().err
