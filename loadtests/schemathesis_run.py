"""`python -m loadtests.schemathesis_run`: the published document against a running API, with every check there is.

schemathesis makes requests of the document, right ones and wrong ones, and holds each answer to what was said: for a
device, an operator and a service, one after the other, on a Postgres and a Valkey of their own. Exits with 0 only if
nothing was found.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg

from loadtests.api_scene import draw
from loadtests.ports import free_port
from loadtests.process import start_python
from loadtests.stand import Stand, running_stand, wait_listening
from shared.tokens import Scope

__all__ = ["CONFIG", "HOOKS", "SETTINGS", "command", "main", "run", "running_api"]

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = Path(__file__).parent / "results"
SUBJECTS: Final[dict[Scope, str]] = {"device": "truck-7", "operator": "olga", "service": "billing"}
# Nothing of this may stand in the way of the requests.
SETTINGS: Final = {
    "FLEETWIRE_DB_POOL_MIN": "2",
    "FLEETWIRE_DB_POOL_MAX": "10",
    "FLEETWIRE_API_DRAIN_S": "0",
    "FLEETWIRE_API_NOTICES_PER_S": "1000",
    "FLEETWIRE_API_RATE_DEVICE": "100000",
    "FLEETWIRE_API_RATE_OPERATOR": "100000",
    "FLEETWIRE_API_RATE_SERVICE": "100000",
    "FLEETWIRE_API_RATE_ALL_PER_S": "100000",
    "FLEETWIRE_PHOTO_PENDING_MAX": "10000",
    "FLEETWIRE_SYNC_KEYS_PER_DAY": "1000000",
}
HOOKS: Final = {"SCHEMATHESIS_HOOKS": "loadtests.schemathesis_hooks", "PYTHONPATH": str(ROOT)}
# Which statuses are a refusal, or no fault of a request that is right. The checks know no 428, which is how a missing
# If-Match is refused, and no 413, which a wrong body may earn before anybody looks into it; what a right request finds
# may be gone, changed or another's (410, 412, 422).
CONFIG: Final = """
[checks.negative_data_rejection]
expected-statuses = ["400", "401", "403", "404", "405", "406", "409", "413", "415", "422", "428", "429"]
[checks.missing_required_header]
expected-statuses = ["400", "401", "403", "406", "415", "422", "428"]
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "304", "302", "401", "403", "404", "409", "410", "412", "422", "429"]
"""


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="loadtests.schemathesis_run", description=__doc__)
    parser.add_argument("--seconds", type=int, default=120, help="for each scope")
    parser.add_argument("--examples", type=int, default=50, help="requests of each kind for each operation")
    parser.add_argument("--scopes", nargs="+", choices=list(SUBJECTS), default=list(SUBJECTS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="operations whose path has this text in it")
    options = parser.parse_args(arguments)
    results = run(options.scopes, options.seconds, options.examples, options.seed, options.only)
    RESULTS.mkdir(exist_ok=True)
    out = RESULTS / f"schemathesis-{time.strftime('%Y%m%d-%H%M%S')}.json"
    out.write_text(json.dumps(results, indent=2) + "\n")
    print(f"saved {out.relative_to(ROOT)}")
    return max(int(one["status"]) for one in results)


def run(
    scopes: Sequence[Scope], seconds: int, examples: int, seed: int, only: str | None = None
) -> list[dict[str, Any]]:
    """How each scope's run ended; a status of 0 says that nothing was found."""
    with running_stand(durable=False) as stand:
        asyncio.run(_draw(stand))
        config = stand.folder / "schemathesis.toml"
        config.write_text(CONFIG)
        with running_api(stand) as port:
            results = []
            for scope in scopes:
                bearer = stand.bearer(SUBJECTS[scope], scope)
                began = time.monotonic()
                status = _schemathesis(port, bearer, config, seconds, examples, seed, only)
                results.append({"scope": scope, "status": status, "seconds": round(time.monotonic() - began, 1)})
            return results


@contextmanager
def running_api(stand: Stand) -> Iterator[int]:
    """An API that is ready, and the gateway that photos are looked for at. Gives its port."""
    port, files_port = free_port(), free_port()
    for name in ("cloud", "tmp"):
        (stand.folder / name).mkdir()
    files = stand.api_environment(
        FLEETWIRE_FILES_PORT=str(files_port),
        FLEETWIRE_OPS_PORT=str(free_port()),
        FLEETWIRE_CLOUD_ROOT=str(stand.folder / "cloud"),
        FLEETWIRE_CLOUD_TMP=str(stand.folder / "tmp"),
    )
    api = stand.api_environment(
        FLEETWIRE_API_PORT=str(port),
        FLEETWIRE_OPS_PORT=str(free_port()),
        FLEETWIRE_FILES_URL=f"http://127.0.0.1:{files_port}",
        **SETTINGS,
    )
    processes = []
    try:
        for name, environment in (("files", files), ("api", api)):
            with (stand.folder / f"{name}.log").open("ab") as log:
                processes.append(start_python(name, environ=environment, log=log))
        wait_listening(files_port)
        wait_listening(port)
        asyncio.run(_ready(port))
        yield port
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(30)
        sys.stderr.write("".join(_failures(stand.folder / "api.log")))


def _schemathesis(
    port: int, bearer: str, config: Path, seconds: int, examples: int, seed: int, only: str | None
) -> int:
    options = [
        "--seed",
        str(seed),
        "--max-examples",
        str(examples),
        "--max-time",
        str(seconds),
        "--continue-on-failure",
    ]
    options += ["--include-path-regex", only] if only else []
    done = subprocess.run(
        command(port, bearer, config, *options),
        cwd=config.parent,
        env=os.environ | HOOKS,
        check=False,
        timeout=4 * seconds + 300,
    )
    return done.returncode


def command(port: int, bearer: str, config: Path, *options: str) -> list[str]:
    """schemathesis with all of its checks, as this caller; to be run in a folder that it may write in, with `HOOKS`."""
    return [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"),
        f"http://127.0.0.1:{port}/api/v1/openapi.json",
        *("--checks", "all", "--no-color", "--header", f"Authorization: Bearer {bearer}"),
        *options,
    ]


async def _draw(stand: Stand) -> None:
    connection = await asyncpg.connect(stand.postgres.url)
    try:
        await draw(connection)
    finally:
        await connection.close()


async def _ready(port: int) -> None:
    async with asyncio.timeout(30):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /ready HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            said = await reader.read()
            writer.close()
            if said.startswith(b"HTTP/1.1 200"):
                return
            await asyncio.sleep(0.05)


def _failures(log: Path) -> list[str]:
    """What the API itself said of failures."""
    return [line + "\n" for line in log.read_text(errors="replace").splitlines() if "error" in line][:50]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
