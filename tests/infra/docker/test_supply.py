"""What a scan's answer means; above all that no answer is no clean bill."""

import pytest

from infra.docker.supply import LOCK, NOT_ASKED, TOOLS, judge

CLEAN = {"name": "orjson", "version": "3.11.4", "vulns": []}
KNOWN = {
    "name": "pillow",
    "version": "9.0.0",
    "vulns": [{"id": "PYSEC-2023-1", "fix_versions": ["9.0.1"]}, {"id": "PYSEC-2023-2", "fix_versions": []}],
}
SKIPPED = {"name": "redis", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("packages", "code", "said"),
    [
        ([CLEAN, CLEAN], 0, "2 packages, nothing known against any"),
        ([SKIPPED], NOT_ASKED, "nothing was scanned"),
        ([CLEAN, SKIPPED], NOT_ASKED, "about 1 nothing was told"),
        ([CLEAN, KNOWN], 1, "pillow 9.0.0: PYSEC-2023-1, mended in 9.0.1"),
        ([SKIPPED, KNOWN], 1, "PYSEC-2023-2, mended in no version"),
        ([], NOT_ASKED, "nothing was scanned"),
    ],
)
def test_the_verdict(packages: list[dict[str, object]], code: int, said: str) -> None:
    verdict = judge({"dependencies": packages})
    assert verdict.code == code
    assert said in verdict.said


def test_the_tools_are_locked_by_hash_and_come_from_nowhere_in_particular() -> None:
    for lock in (TOOLS, LOCK):
        text = lock.read_text()
        assert "--hash=sha256:" in text
        assert "://" not in text
