"""A photo of 2 GiB: reserved, uploaded to the files gateway, confirmed and fetched again; what it costs in memory.

The content is made while it is sent and compared while it comes back, so that nobody here holds it either. Peaks are
the kernel's own (VmHWM, set back before), above what the processes had after a small photo went the same way.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
from rich.console import Console

from loadtests.machine import running_machine
from loadtests.process import resident_bytes

__all__ = ["carry", "main", "passed"]

RESULTS: Final = Path(__file__).parent / "results"
_MIB: Final = 2**20
_DEADLINE_S: Final = 1800.0
_BLOCK: Final = random.Random(1).randbytes(_MIB)


def content(mib: int) -> Iterator[bytes]:
    """So many blocks, no two alike."""
    for number in range(mib):
        yield number.to_bytes(8, "big") + _BLOCK[8:]


async def _sent(mib: int) -> AsyncIterator[bytes]:
    for block in content(mib):
        yield block


def peak_bytes(pid: int) -> int:
    """The most resident memory since `forget_peak`, by the kernel's count."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def forget_peak(pid: int) -> None:
    """Count the peak anew."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def carry(api: str, bearer: str, pids: dict[str, int], mib: int) -> dict[str, Any]:
    """All of it. `pids` are of the processes `api` and `files`."""
    async with httpx.AsyncClient(trust_env=False, timeout=_DEADLINE_S) as client:
        client.headers["Authorization"] = f"Bearer {bearer}"
        for _ in range(2):
            await _one(api, client, 1)
        base = {name: resident_bytes(pid) for name, pid in pids.items()}
        for pid in pids.values():
            forget_peak(pid)
        figures: dict[str, Any] = {"mib": mib} | await _one(api, client, mib)
    for name, pid in pids.items():
        figures[f"{name}_base_mib"] = round(base[name] / _MIB, 1)
        figures[f"{name}_peak_above_base_mib"] = round((peak_bytes(pid) - base[name]) / _MIB, 2)
        figures[f"{name}_after_above_base_mib"] = round((resident_bytes(pid) - base[name]) / _MIB, 2)
    return figures


async def _one(api: str, client: httpx.AsyncClient, mib: int) -> dict[str, Any]:
    hashed = hashlib.sha256()
    for block in content(mib):
        hashed.update(block)
    wanted = {"name": "big.tiff", "content_type": "image/tiff", "size": mib * _MIB, "sha256": hashed.hexdigest()}
    reserved = await client.post(f"{api}/api/v1/photos/upload-params/", json=wanted)
    assert reserved.status_code == 201, reserved.text
    params = reserved.json()
    began = time.monotonic()
    # The store is no place for a token.
    async with httpx.AsyncClient(trust_env=False, timeout=_DEADLINE_S) as store:
        sent = await store.put(params["url"], content=_sent(mib), headers=params["headers"])
        assert sent.status_code == 201, sent.text
        uploaded = time.monotonic()
        done = await client.post(f"{api}/api/v1/photos/confirm/", json={"photo_id": params["photo_id"]})
        assert done.status_code == 200, done.text
        confirmed = time.monotonic()
        where = await client.get(f"{api}{done.json()['url']}")
        back = hashlib.sha256()
        async with store.stream("GET", where.headers["location"]) as answer:
            async for piece in answer.aiter_raw():
                back.update(piece)
    return {
        "upload_s": round(uploaded - began, 2),
        "confirm_s": round(confirmed - uploaded, 3),
        "download_s": round(time.monotonic() - confirmed, 2),
        "came_back_whole": back.hexdigest() == hashed.hexdigest(),
    }


def passed(figures: dict[str, Any], *, api_mb: float, files_mib: float) -> bool:
    """The content whole, and both processes within their bounds, at the peak and after."""
    api = (figures["api_peak_above_base_mib"], figures["api_after_above_base_mib"])
    return bool(
        figures["came_back_whole"]
        and all(abs(one) * _MIB <= api_mb * 1_000_000 for one in api)
        and figures["files_peak_above_base_mib"] <= files_mib
    )


def main() -> int:
    """Start everything, carry the photo, judge, save. Exit status 1 unless it is within the bounds."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.big_photo", description=__doc__)
    parser.add_argument("--mib", type=int, default=2048, help="size of the photo (default 2048)")
    parser.add_argument("--api-mb", type=float, default=5.0, help="goal: API, either way (default 5)")
    parser.add_argument("--files-mib", type=float, default=64.0, help="goal: files gateway above base (default 64)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    with running_machine(hubs=1) as machine:
        pids = {name: machine.pid(name) for name in ("api", "files")}
        figures = asyncio.run(carry(machine.api, machine.token("truck-7", "device"), pids, options.mib))
    met = passed(figures, api_mb=options.api_mb, files_mib=options.files_mib)
    console.print(f"{figures['mib']:,} MiB: upload {figures['upload_s']} s, confirm {figures['confirm_s']} s, ", end="")
    console.print(f"download {figures['download_s']} s, whole: {figures['came_back_whole']}")
    for name in ("api", "files"):
        base, peak, after = (figures[f"{name}_{what}"] for what in ("base_mib", *_ABOVE))
        console.print(f"{name}: {base} MiB, at the peak {peak:+} MiB, afterwards {after:+} MiB")
    console.print("within the bounds" if met else "NOT WITHIN THE BOUNDS")
    options.results.mkdir(exist_ok=True)
    file = options.results / f"big-photo-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures | {"passed": met}, indent=1) + "\n")
    return 0 if met else 1


_ABOVE: Final = ("peak_above_base_mib", "after_above_base_mib")

if __name__ == "__main__":
    raise SystemExit(main())
