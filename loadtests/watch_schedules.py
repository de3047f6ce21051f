"""Seeded schedules of faults against feeds, in virtual time: `python -m loadtests.watch_schedules --schedules 10000`.

Each is a world of its own (see watching/world.py); a schedule that breaks a promise says its seed, and `--seed N` plays
that one alone.
"""

import argparse
import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Final

from loadtests.watching.world import Broken, World

_RESULTS: Final = Path(__file__).parent / "results"
_CHUNK: Final = 50


def play(seed: int) -> tuple[int, int, str | None]:
    """(steps, faults, what broke) of a schedule."""
    world = World(seed)
    try:
        world.run()
    except Broken as error:
        return world.steps, len(world.faults), str(error)
    return world.steps, len(world.faults), None


def main() -> int:
    """Play them on all cores, with progress; a JSON file at the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedules", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="play this one alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    seeds = [given.seed] if given.seed is not None else range(given.first, given.first + given.schedules)
    began, steps, faults, played = time.monotonic(), 0, 0, 0
    broken: list[str] = []
    with multiprocessing.Pool(given.processes) as pool:
        for taken, struck, trouble in pool.imap_unordered(play, seeds, chunksize=min(_CHUNK, len(seeds))):
            played, steps, faults = played + 1, steps + taken, faults + struck
            if trouble is not None:
                broken.append(trouble)
                print(trouble, flush=True)
            if played % 500 == 0:
                print(f"{played} of {len(seeds)}, {len(broken)} broken, {time.monotonic() - began:.0f} s", flush=True)
    result = {
        "schedules": played,
        "broken": len(broken),
        "steps": steps,
        "faults": faults,
        "seconds": round(time.monotonic() - began, 1),
    }
    _RESULTS.mkdir(exist_ok=True)
    (_RESULTS / "watch_schedules.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(json.dumps(result))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
