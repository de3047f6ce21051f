"""2,000 photos of 12 to 50 megapixels through the worker's pool: memory over time, and speed beside Pillow in a loop.

No process is replaced during the run, so that what a handler leaves behind would add up. The loop runs in turns with
the pool over the same files; both are counted in CPU seconds, which a busy machine disturbs less than the clock, and a
photo a core is one over the CPU seconds of a photo. The pool's count includes this process, which gives it the work.
"""

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, Final

from PIL import Image
from rich.console import Console

from loadtests.big_photo import peak_bytes
from loadtests.photo_corpus import KINDS, make_corpus
from loadtests.photo_loop import MANNERS
from loadtests.process import cpu_seconds, resident_bytes
from worker.pool import HandlerPool, PoolLimits
from worker.pool_wire import Order

__all__ = ["Series", "Wanted", "main", "measure", "passed"]

RESULTS: Final = Path(__file__).parent / "results"
_DEADLINE_S: Final = 180.0
_NEVER: Final = 10**9
_MB: Final = 1_000_000
_LOOP_TURNS: Final = 4


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is run. `memory_mb` is the bound of a pool process."""

    photos: int = 2000
    corpus: int = 24
    megapixels: tuple[float, float] = (12.0, 50.0)
    processes: int = 1
    memory_mb: int = 500
    kinds: tuple[str, ...] = KINDS


@dataclass(slots=True)
class Series:
    """Resident megabytes of a process after each of its photos."""

    resident: list[float] = field(default_factory=list)
    peak: float = 0.0

    def quarter(self, number: int) -> float:
        """The mean of a quarter, 0 to 3."""
        size = max(1, len(self.resident) // 4)
        return fmean(self.resident[number * size : (number + 1) * size] or self.resident[-size:])

    def growth(self) -> float:
        """From the second quarter to the last; the first is warming up."""
        return self.quarter(3) - self.quarter(1)


async def measure(wanted: Wanted, folder: Path, environ: Mapping[str, str]) -> dict[str, Any]:
    """All of it; figures."""
    files = make_corpus(folder, wanted.corpus, wanted.megapixels, wanted.kinds)
    limits = PoolLimits(memory=wanted.memory_mb * _MB, recycle_resident=_NEVER, recycle_after=_NEVER, nice=0)
    pool = HandlerPool(wanted.processes, environ=environ, limits=limits, rand=random.Random(1))
    series: dict[int, Series] = {}
    refused: list[str] = []
    cost = dict.fromkeys(("pool", *MANNERS), 0.0)
    loop_photos = 0
    seconds = 0.0
    await pool.start()
    try:
        await _all_ready(pool)
        pids = pool.pids
        done, turn = 0, max(len(files), -(-wanted.photos // _LOOP_TURNS))
        while done < wanted.photos:
            block = [files[(done + n) % len(files)] for n in range(min(turn, wanted.photos - done))]
            began, before = time.monotonic(), _cpu(pids)
            await _through(pool, block, folder, series, refused)
            seconds += time.monotonic() - began
            cost["pool"] += _cpu(pids) - before
            done += len(block)
            for manner in MANNERS:
                cost[manner] += (await asyncio.to_thread(_loop, manner, files, folder))["cpu_s"]
            loop_photos += len(files)
        lost = sorted(set(pids) - set(pool.pids))
    finally:
        await pool.close()
    rates = {name: (wanted.photos if name == "pool" else loop_photos) / spent for name, spent in cost.items()}
    return {
        "photos": wanted.photos,
        "seconds": round(seconds, 1),
        "megapixels": list(wanted.megapixels),
        "refused": refused[:10],
        "processes_lost": len(lost),
        "photos_per_core_s": {name: round(rate, 2) for name, rate in rates.items()},
        "ratio": {name: round(rates["pool"] / rates[name], 3) for name in MANNERS},
        "resident_mb": [[round(one.quarter(n), 1) for n in range(4)] for one in series.values()],
        "growth_mb": round(max((one.growth() for one in series.values()), default=0.0), 2),
        "peak_mb": round(max((one.peak for one in series.values()), default=0.0), 1),
    }


async def _all_ready(pool: HandlerPool) -> None:
    async with asyncio.timeout(60):
        while pool.ready < pool.size:
            await asyncio.sleep(0.02)


async def _through(
    pool: HandlerPool, block: Sequence[Path], folder: Path, series: dict[int, Series], refused: list[str]
) -> None:
    waiting = list(enumerate(block))[::-1]

    async def serve(place: int) -> None:
        output = folder / f"out-{place}"
        output.mkdir(exist_ok=True)
        while waiting:
            _, path = waiting.pop()
            done = await pool.run(Order("photo", path.name, str(path), str(output), {}), timeout_s=_DEADLINE_S)
            for pid in pool.pids:
                one = series.setdefault(pid, Series())
                one.resident.append(resident_bytes(pid) / _MB)
                one.peak = peak_bytes(pid) / _MB
            if done.answer.outcome != "processed" or not _right(output):
                refused.append(f"{path.name}: {done.answer.outcome} {done.answer.detail}")
            for file in output.iterdir():
                file.unlink()

    async with asyncio.TaskGroup() as group:
        for place in range(pool.size):
            group.create_task(serve(place))


def _right(output: Path) -> bool:
    """The photo stands there and is no larger than it may be."""
    with Image.open(output / "photo.jpg") as photo, Image.open(output / "thumbnail.jpg") as thumbnail:
        return max(photo.size) <= 2048 and max(thumbnail.size) <= 320


def _cpu(pids: Sequence[int]) -> float:
    return sum(cpu_seconds(pid) for pid in pids) + cpu_seconds()


def _loop(manner: str, files: Sequence[Path], folder: Path) -> dict[str, float]:
    output = folder / f"loop-{manner}"
    output.mkdir(exist_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", "loadtests.photo_loop", manner, str(output)],
        input="\n".join(map(str, files)), capture_output=True, text=True, check=True, timeout=3600,
    )  # fmt: skip
    figures: dict[str, float] = json.loads(ended.stdout)
    return figures


def passed(figures: Mapping[str, Any], *, growth_mb: float, memory_mb: float, ratio: float) -> bool:
    """Every photo processed, no process lost, memory flat and within its bound, and not slower than that."""
    return bool(
        not figures["refused"]
        and not figures["processes_lost"]
        and figures["growth_mb"] <= growth_mb
        and figures["peak_mb"] <= memory_mb
        and figures["ratio"]["plain"] >= ratio
    )


def main() -> int:
    """Make the photos, run, judge, save. Exit status 1 unless all is met."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.photos", description=__doc__)
    default = Wanted()
    parser.add_argument("--photos", type=int, default=default.photos, help="photos through the pool (default 2000)")
    parser.add_argument("--corpus", type=int, default=default.corpus, help="different ones (default 24)")
    parser.add_argument("--megapixels", type=float, nargs=2, default=default.megapixels, help="least and most")
    parser.add_argument("--processes", type=int, default=default.processes, help="of the pool (default 1)")
    parser.add_argument("--kinds", nargs="+", choices=sorted(set(KINDS)), default=KINDS, help="formats, in turn")
    parser.add_argument("--memory-mb", type=int, default=default.memory_mb, help="bound of a process (default 500)")
    parser.add_argument("--growth-mb", type=float, default=10.0, help="goal: growth at most (default 10)")
    parser.add_argument("--ratio", type=float, default=0.8, help="goal: speed beside the plain loop (default 0.8)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    given = parser.parse_args()
    least, most = given.megapixels
    wanted = Wanted(
        given.photos, given.corpus, (least, most), given.processes, given.memory_mb, tuple(given.kinds)
    )  # fmt: skip
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="fleetwire-photos-") as folder:
        figures = asyncio.run(measure(wanted, Path(folder), os.environ))
    met = passed(figures, growth_mb=given.growth_mb, memory_mb=given.memory_mb, ratio=given.ratio)
    console.print(f"{figures['photos']:,} photos of {least:g} to {most:g} megapixels in {figures['seconds']} s")
    console.print(f"photos a second a core: {figures['photos_per_core_s']}; pool beside each loop: {figures['ratio']}")
    console.print(f"resident MB by quarters: {figures['resident_mb']}, growth {figures['growth_mb']:+}", end="")
    console.print(f", peak {figures['peak_mb']} MB; refused: {figures['refused'] or 'none'}")
    console.print("met" if met else "NOT MET")
    given.results.mkdir(exist_ok=True)
    file = given.results / f"photos-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures | {"passed": met}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
