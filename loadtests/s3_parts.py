"""A large object to S3 over a line with delay: parts one after the other, then three on their way at a time.

The engine of all uploads in parts, the provider and an S3 server of its own process; between them a line that delays
every byte by so much each way and lets a connection have no more under way than its window, as TCP over such a line has
it: window / round trip is what one connection can carry. Rounds of one and of three take turns; the medians are
compared. It is verified each time that S3 has the right bytes.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from loadtests.delayed_line import delayed_line
from loadtests.s3_process import KEY, S3Server, running_s3
from shared.cloud.http import HttpClient
from shared.cloud.provider import Part, Upload
from shared.cloud.s3.bucket import Bucket
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.provider import S3Provider
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_source import FileContent

__all__ = ["compare", "main"]

RESULTS: Final = Path(__file__).parent / "results"
_MIB: Final = 2**20


class _AtMost(S3Provider):
    """The provider with no more than so many parts on their way, whatever it is given."""

    def __init__(self, client: S3Client, *, prefix: str, at_once: int) -> None:
        super().__init__(client, prefix=prefix)
        self._free = asyncio.Semaphore(at_once)

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """See provider.Provider."""
        async with self._free:
            return await super().put_part(upload, start, content)


async def compare(s3: S3Server, file: Path, *, delay_s: float, window: int, rounds: int) -> dict[str, Any]:
    """MB per second with one part on its way and with three, and how these compare."""
    size = file.stat().st_size
    rates: dict[int, list[float]] = {1: [], 3: []}
    http, transfer = HttpClient(deadline_s=60.0), Transfer()
    try:
        with delayed_line(s3.url, delay_s=delay_s, window=window) as url:
            bucket = Bucket(s3.bucket.name, s3.bucket.region, url)
            for number in range(2 * rounds):
                at_once = (1, 3)[number % 2]
                provider = _AtMost(S3Client(bucket, KEY, http), prefix=f"round {number}", at_once=at_once)
                content = await FileContent.of(file, transfer.threads)
                began = time.monotonic()
                landed = await transfer.put(provider, "big.bin", content)
                rates[at_once].append(size / (time.monotonic() - began) / 1e6)
                assert "crc64nvme" in landed.object.hashes, "believed without a checksum"
                await provider.remove("big.bin")
    finally:
        await transfer.close()
        await http.close()
    one, three = (statistics.median(rates[at_once]) for at_once in (1, 3))
    return {
        "mib": round(size / _MIB, 1),
        "delay_ms": delay_s * 1000,
        "window_kib": window // 1024,
        "one_mb_s": [round(rate, 2) for rate in rates[1]],
        "three_mb_s": [round(rate, 2) for rate in rates[3]],
        "ratio": round(three / one, 2),
    }


def main() -> int:
    """Run, judge, save. Exit status 1 unless three at a time reach the goal."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.s3_parts", description=__doc__)
    parser.add_argument("--mib", type=int, default=100, help="size of the object (default 100)")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="delay of the line, each way (default 20)")
    parser.add_argument("--window-kib", type=int, default=256, help="under way on one connection (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="of each (default 3)")
    parser.add_argument("--goal", type=float, default=2.0, help="three at a time over one (default 2)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="fleetwire-s3-parts-") as folder, running_s3() as s3:
        file = Path(folder) / "big.bin"
        with file.open("wb") as out:
            for number in range(options.mib):
                out.write(random.Random(number).randbytes(_MIB))
        figures = asyncio.run(
            compare(
                s3,
                file,
                delay_s=options.delay_ms / 1000,
                window=options.window_kib * 1024,
                rounds=options.rounds,
            )
        )
    met = figures["ratio"] >= options.goal
    line = f"{figures['mib']:g} MiB, {figures['delay_ms']:g} ms each way, {figures['window_kib']} KiB under way at most"
    console.print(f"{line}: one part at a time {figures['one_mb_s']} MB/s, three {figures['three_mb_s']} MB/s")
    console.print(f"{figures['ratio']} times as fast, {'as' if met else 'NOT AS'} it should be (≥ {options.goal:g})")
    options.results.mkdir(exist_ok=True)
    saved = options.results / f"s3-parts-{time.strftime('%Y%m%d-%H%M%S')}.json"
    saved.write_text(json.dumps(figures | {"passed": met}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
