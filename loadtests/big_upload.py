"""A file of 2 GiB to each provider while 10 % of its parts fail: the right bytes, within 64 MiB over the base.

Every upload is a process of its own with the settings of a worker, against an emulator (or, for S3, moto) in another;
Postgres keeps the names for Google Drive. Parts fail in the ways of the wire: refused, cut in the middle, done and the
answer lost; on the local disk, before and after they were written. Peaks are the kernel's own (VmHWM, set back before)
above what the process had after a small file went the same way. With --crash the process is killed with SIGKILL when
half is brought, and another goes on. In the end the object is read back and hashed.
"""

import argparse
import asyncio
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
from rich.console import Console

from infra.migrations.runner import migrate
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from loadtests.big_photo import content, forget_peak, peak_bytes
from loadtests.emulators.faults import Fault
from loadtests.ports import free_port
from loadtests.process import cpu_seconds, resident_bytes, start_python
from loadtests.run_folder import run_folder
from loadtests.stand import child
from shared.cloud.errors import StoreUnavailable
from shared.cloud.hashes import Digest
from shared.cloud.local_provider import LocalProvider
from shared.cloud.provider import Part, Provider, Upload
from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.stores import open_stores
from shared.cloud.transfer import Progress, Transfer
from shared.cloud.transfer_journal import SidecarJournal
from shared.cloud.transfer_plan import PART_BYTES
from shared.cloud.transfer_source import BytesContent, FileContent
from shared.settings import load
from shared.store.pool import open_pool

__all__ = ["STORES", "carry", "made_file", "main", "passed"]

RESULTS: Final = Path(__file__).parent / "results"
STORES: Final = ("local", "s3", "sharepoint", "drive")
PATH: Final = "Requests/truck-7/survey.bin"
_MIB: Final = 2**20
_EVER: Final = 1_000_000_000
_DEADLINE_S: Final = 3600.0


class _FailingDisk(LocalProvider):
    """A part in so many fails, before or after it was written."""

    rate = 0.0
    rand = Random(2)
    failed = 0

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        fails = self.rand.random() < self.rate
        self.failed += fails
        if fails and self.rand.random() < 0.5:
            raise StoreUnavailable("the disk was away")
        part = await super().put_part(upload, start, content)
        if fails:
            raise StoreUnavailable("the answer was lost")
        return part


def faults(store: str, rate: float) -> list[Fault]:
    """So many of the parts fail, in equal shares of each way. (What is left over when one passed goes to the next.)"""
    call = "UploadPart" if store == "s3" else "upload.put"
    kinds = ("status", "lose_answer") if store == "s3" else ("status", "cut_request", "lose_answer")
    found, left = [], 1.0
    for kind in kinds:
        share = rate / len(kinds)
        cut = {"after_bytes": 3 * _MIB} if kind == "cut_request" else {}
        found.append(Fault(call, kind, times=_EVER, rate=share / left, **cut))  # type: ignore[arg-type]
        left -= share
    return found


def made_file(path: Path, mib: int) -> str:
    """Write it; its sha256."""
    hashed = hashlib.sha256()
    with path.open("wb") as file:
        for block in content(mib):
            file.write(block)
            hashed.update(block)
    return hashed.hexdigest()


@contextmanager
def _emulator(module: str, folder: Path) -> Iterator[dict[str, Any]]:
    arguments = [] if module.endswith("s3_server") else ["--folder", str(folder)]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = start_python(module, arguments, log=log)
        try:
            assert process.stdout is not None
            said: dict[str, Any] = json.loads(process.stdout.readline())
            yield said
        finally:
            process.kill()
            process.communicate()


def _failed(store: str, environ: dict[str, str], parts: int) -> int:
    """How many parts the other end failed."""
    if store == "s3":
        calls = httpx.get(f"{environ['FLEETWIRE_S3_ENDPOINT']}/_calls", trust_env=False).json()
        # The small file that went before was one part.
        return int(calls["UploadPart"]) - parts - 1
    url = environ["FLEETWIRE_DRIVE_URL" if store == "drive" else "FLEETWIRE_GRAPH_URL"]
    return int(httpx.post(f"{url}/control", json={}, trust_env=False).json()["happened"])


@contextmanager
def _provider_of(store: str, folder: Path, rate: float) -> Iterator[dict[str, str]]:
    """The environment of an uploader, while the other end runs."""
    folder.mkdir(parents=True)
    if store == "local":
        (folder / "root").mkdir()
        yield {"BIG_UPLOAD_ROOT": str(folder / "root"), "BIG_UPLOAD_RATE": str(rate)}
        return
    modules = {
        "s3": "loadtests.s3_server",
        "drive": "loadtests.emulators.drive",
        "sharepoint": "loadtests.emulators.graph",
    }
    with _emulator(modules[store], folder) as said:
        ordered = [asdict(one) for one in faults(store, rate)]
        url = said["url"]
        if store == "s3":
            httpx.post(f"{url}/_faults", json=ordered, trust_env=False).raise_for_status()
            yield {
                "FLEETWIRE_S3_BUCKET": "depot",
                "FLEETWIRE_S3_ENDPOINT": url,
                "FLEETWIRE_S3_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
                "FLEETWIRE_S3_SECRET": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
            }
            return
        httpx.post(f"{url}/control", json={"faults": ordered}, trust_env=False).raise_for_status()
        if store == "drive":
            yield {
                "FLEETWIRE_DRIVE_KEY_FILE": said["key_file"],
                "FLEETWIRE_DRIVE_ROOTS": said["root"],
                "FLEETWIRE_DRIVE_URL": url,
            }
            return
        yield {
            "FLEETWIRE_GRAPH_TENANT": said["tenant"],
            "FLEETWIRE_GRAPH_CLIENT_ID": said["client_id"],
            "FLEETWIRE_GRAPH_CLIENT_SECRET": said["client_secret"],
            "FLEETWIRE_GRAPH_DRIVES": said["drive"],
            "FLEETWIRE_GRAPH_URL": url,
            "FLEETWIRE_GRAPH_LOGIN_URL": url,
        }


def _uploader(store: str, file: Path, environ: dict[str, str]) -> "subprocess.Popen[str]":
    with file.with_suffix(".log").open("ab") as log:
        return start_python("loadtests.big_upload", ["--uploader", store, str(file)], environ=environ, log=log)


def carry(
    store: str, file: Path, folder: Path, *, rate: float, database_url: str, crash: bool = False, console: Console
) -> dict[str, Any]:
    """Upload the file; the figures."""
    with _provider_of(store, folder / store, rate) as environ:
        environ |= {"FLEETWIRE_DATABASE_URL": database_url, "BIG_UPLOAD_KEPT": str(folder / store / "kept")}
        size = file.stat().st_size
        killed_at = None
        while True:
            process = _uploader(store, file, environ)
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    said = json.loads(line)
                    if "figures" in said:
                        figures: dict[str, Any] = {"store": store, "killed_at": killed_at} | said["figures"]
                        if store != "local":
                            figures["failed_parts"] = _failed(store, environ, -(-size // PART_BYTES))
                        return figures
                    if crash and killed_at is None and said["brought"] * 2 >= size:
                        killed_at = said["brought"]
                        console.print(f"{store}: killed at {killed_at / size:.0%}")
                        break
                else:
                    raise RuntimeError(
                        f"the uploader to {store} ended with {process.wait()}; see {file.with_suffix('.log')}"
                    )
            finally:
                process.kill()
                process.communicate()


def passed(figures: dict[str, Any], *, over_mib: float) -> bool:
    """The bytes are right, the memory within its bound, and who was killed was gone on from."""
    went_on = figures["killed_at"] is None or figures["first_brought"] > 0
    return bool(figures["whole"] and figures["peak_above_base_mib"] <= over_mib and went_on)


async def _upload(store: str, file: Path) -> dict[str, Any]:
    """Inside the uploader: its own figures."""
    environ = dict(os.environ)
    settings = load(ProviderSettings, environ)
    pool = await open_pool(environ["FLEETWIRE_DATABASE_URL"], name="big-upload", max_size=2)
    local = None
    if "BIG_UPLOAD_ROOT" in environ:
        root = Path(environ["BIG_UPLOAD_ROOT"])
        local = _FailingDisk(root, root.parent / "tmp")
        local.rate = float(environ["BIG_UPLOAD_RATE"])
    stores = open_stores(settings, local=local, pool=pool)
    provider = stores.need(store)
    transfer = Transfer()
    try:
        figures = await _measured(provider, transfer, file, SidecarJournal(Path(environ["BIG_UPLOAD_KEPT"])))
        return figures | ({} if local is None else {"failed_parts": local.failed})
    finally:
        await transfer.close()
        await stores.close()
        await pool.close()


async def _measured(provider: Provider, transfer: Transfer, file: Path, journal: SidecarJournal) -> dict[str, Any]:
    pid = os.getpid()
    small = BytesContent(Random(pid).randbytes(_MIB))
    await transfer.put(provider, f"Requests/truck-7/small-{pid}.bin", small)
    told: list[Progress] = []
    whole_at: list[float] = []

    def tell(now: Progress) -> None:
        if not told or now.brought != told[-1].brought:
            print(json.dumps({"brought": now.brought}), flush=True)
        # The first and the last.
        told[min(1, len(told)) :] = [now]
        if now.brought == now.size:
            whole_at.append(time.monotonic())

    base = resident_bytes(pid)
    forget_peak(pid)
    began, cpu = time.monotonic(), cpu_seconds(pid)
    landed = await transfer.put(
        provider, PATH, await FileContent.of(file, transfer.threads), journal=journal, on_progress=tell
    )
    seconds, cpu = time.monotonic() - began, cpu_seconds(pid) - cpu
    peak = peak_bytes(pid)
    hashed, size = hashlib.sha256(), 0
    async with provider.open(PATH, object_id=landed.object.object_id) as reader:
        async for piece in reader.chunks():
            hashed.update(piece)
            size += len(piece)
    return {
        "mib": landed.content.size / _MIB,
        "whole": Digest(size, hashed.hexdigest()) == landed.content,
        "sha256": hashed.hexdigest(),
        "seconds": round(seconds, 1),
        "parts_s": round(whole_at[-1] - began, 1),
        "cpu_s": round(cpu, 1),
        "base_mib": round(base / _MIB, 1),
        "peak_above_base_mib": round((peak - base) / _MIB, 1),
        "after_above_base_mib": round((resident_bytes(pid) - base) / _MIB, 1),
        "first_brought": told[0].brought,
        "retries": told[-1].retries,
        "restarts": told[-1].restarts,
    }


@contextmanager
def running_postgres(folder: Path) -> Iterator[str]:
    """A migrated Postgres that forgets on power loss."""
    home = Home(folder / "home")
    home.prepare()
    server = EmbeddedPostgres(home, port=free_port(), durable=False)
    server.prepare()
    with child(server.launch_arguments(), folder / "postgres.log", server.environment()):
        asyncio.run(server.wait_ready(60))
        asyncio.run(migrate(server.url))
        yield server.url


def _run(options: argparse.Namespace, console: Console) -> list[dict[str, Any]]:
    found = []
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder("fleetwire-upload-"))
        database_url = stack.enter_context(running_postgres(folder))
        file = folder / "survey.bin"
        sha256 = made_file(file, options.mib)
        for store in options.store or STORES:
            figures = carry(
                store,
                file,
                folder,
                rate=options.rate,
                database_url=database_url,
                crash=options.crash,
                console=console,
            )
            figures["whole"] = figures["whole"] and figures["sha256"] == sha256
            figures["passed"] = passed(figures, over_mib=options.over_mib)
            console.print(
                f"{store}: {figures['mib']:,.0f} MiB in {figures['seconds']} s "
                f"(all parts after {figures['parts_s']} s; {figures['cpu_s']} s of CPU), "
                f"{figures['failed_parts']} parts failed, whole: {figures['whole']}, base {figures['base_mib']} MiB, "
                f"peak {figures['peak_above_base_mib']:+} MiB"
            )
            found.append(figures)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Upload to each, judge, save. Exit status 1 unless all are right and within the bound."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.big_upload", description=__doc__)
    parser.add_argument("--mib", type=int, default=2048, help="size of the file (default 2048)")
    parser.add_argument("--rate", type=float, default=0.1, help="share of parts that fail (default 0.1)")
    parser.add_argument("--store", action="append", choices=STORES, help="only this one; may be repeated")
    parser.add_argument("--crash", action="store_true", help="kill the uploader at half, and let another go on")
    parser.add_argument("--over-mib", type=float, default=64.0, help="goal: memory over base (default 64)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the figures")
    parser.add_argument("--uploader", nargs=2, metavar=("STORE", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.uploader:
        store, file = options.uploader
        figures = asyncio.run(asyncio.wait_for(_upload(store, Path(file)), _DEADLINE_S))
        print(json.dumps({"figures": figures}), flush=True)
        return 0
    console = Console(soft_wrap=True, file=sys.stderr)
    found = _run(options, console)
    met = all(figures["passed"] for figures in found)
    console.print("all right, within the bound" if met else "NOT RIGHT OR NOT WITHIN THE BOUND")
    options.results.mkdir(exist_ok=True)
    file = options.results / f"big-upload-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps({"rate": options.rate, "crash": options.crash, "uploads": found}, indent=1) + "\n")
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
