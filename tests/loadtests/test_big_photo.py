"""The run of 2 GiB, with less: still more than the files gateway may take in memory."""

from pathlib import Path

import pytest

from loadtests.big_photo import carry, passed
from tests.api.conftest import FILES_KEYS, ApiProcess, api_environment, token
from tests.files.test_app import serving

MIB = 80


@pytest.mark.processes
@pytest.mark.timeout(180)
async def test_a_large_photo_passes_by_the_api_and_through_the_gateway_in_little_memory(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with serving(tmp_path, FILES_KEYS=FILES_KEYS) as files:
        files_url = f"http://127.0.0.1:{files.port}"
        api = ApiProcess(api_environment(database_url, redis_url, FLEETWIRE_FILES_URL=files_url), tmp_path / "api.log")
        await api.start()
        try:
            await api.ready()
            assert api.process is not None
            pids = {"api": api.process.pid, "files": files.process.pid}
            figures = await carry(api.url, token("truck-7"), pids, MIB)
        finally:
            await api.end()
    assert passed(figures, api_mb=5, files_mib=64), figures


def test_what_is_not_whole_or_took_too_much_does_not_pass() -> None:
    good = {
        "came_back_whole": True,
        "api_peak_above_base_mib": 1.0,
        "api_after_above_base_mib": -1.0,
        "files_peak_above_base_mib": 60.0,
    }
    assert passed(good, api_mb=5, files_mib=64)
    bad = ("came_back_whole", False), ("api_peak_above_base_mib", 5.0), ("files_peak_above_base_mib", 65.0)
    for name, value in bad:
        assert not passed(good | {name: value}, api_mb=5, files_mib=64)
    assert not passed(good | {"api_after_above_base_mib": -5.0}, api_mb=5, files_mib=64)
