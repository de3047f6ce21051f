"""What a process holds after large blocks came and went among small ones that stay."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import os
from pathlib import Path
from shared.heap import give_back_large_blocks

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

if {fixed}:
    assert give_back_large_blocks()
del_me = bytes(300_000)
del del_me
before = resident()
large, small = [], []
for number in range(200):
    large.append(bytearray(b"x") * 200_000)
    small.append(bytearray(b"y") * 4_000)
grown = resident() - before
large.clear()
print(grown, resident() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_large_blocks_go_back_to_the_system() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.replace("{fixed}", "True")],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    grown, left = map(int, said.split())
    assert grown > 30_000_000
    assert left < 8_000_000
