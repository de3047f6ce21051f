"""The run of 2 GiB to every provider, with less; one of them is killed at half and gone on from."""

from pathlib import Path

import pytest
from rich.console import Console

from loadtests.big_upload import STORES, carry, made_file, passed

MIB = 120


@pytest.mark.processes
@pytest.mark.timeout(240)
@pytest.mark.parametrize("store", STORES)
def test_a_large_file_whose_parts_fail_arrives_whole_in_little_memory(
    store: str, database_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "survey.bin"
    sha256 = made_file(file, MIB)
    console = Console(soft_wrap=True)
    figures = carry(
        store, file, tmp_path, rate=0.25, database_url=database_url, crash=store == "drive", console=console
    )
    file.unlink()
    assert figures["sha256"] == sha256
    assert passed(figures, over_mib=64), figures
    assert figures["failed_parts"] > 0
    assert (figures["killed_at"] is not None) == (store == "drive")


def test_what_is_not_whole_took_too_much_or_began_anew_does_not_pass() -> None:
    good = {"whole": True, "peak_above_base_mib": 60.0, "killed_at": None, "first_brought": 0}
    assert passed(good, over_mib=64)
    assert not passed(good | {"whole": False}, over_mib=64)
    assert not passed(good | {"peak_above_base_mib": 65.0}, over_mib=64)
    assert not passed(good | {"killed_at": 5}, over_mib=64)
    assert passed(good | {"killed_at": 5, "first_brought": 4}, over_mib=64)
