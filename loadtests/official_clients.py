"""The vendors' own client libraries, unchanged, against our emulators and the tests' S3 server (on demand).

    python -m loadtests.official_clients [--only google_drive|microsoft_graph|s3]

They are installed, by hash, into a folder that is thrown away; nothing of ours is in there. Each library runs a list of
checks in a process of its own. Ends with 0 when all of them pass; the figures are in results/official_clients.json.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from loadtests.ports import free_port
from loadtests.process import start_python

__all__ = ["CLIENTS", "checked", "installed", "running"]

RESULTS: Final = Path(__file__).parent / "results"
CLIENTS: Final = {
    "google_drive": "google-api-python-client",
    "microsoft_graph": "msgraph-sdk",
    "s3": "boto3",
}
_HERE: Final = Path(__file__).parent / "official"
_EMULATORS: Final = {"google_drive": "loadtests.emulators.drive", "microsoft_graph": "loadtests.emulators.graph"}
_INSTALL_S: Final = 600.0
_START_S: Final = 60.0
_CHECKS_S: Final = 300.0


def installed(folder: Path) -> Path:
    """The Python of a new environment that has the libraries."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=_INSTALL_S)
    python = folder / "bin" / "python"
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"]
    command = [str(python), "-m", "pip", "install", *options, "-r", str(_HERE / "requirements.txt")]
    subprocess.run(command, check=True, timeout=_INSTALL_S)
    return python


@contextmanager
def running(client: str) -> Iterator[dict[str, Any]]:
    """What the client is pointed at, running; what the checks are told of it."""
    if client in _EMULATORS:
        process = start_python(_EMULATORS[client])
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.kill()
            process.communicate()
        return
    port = free_port()
    process = start_python("moto.server", ["-H", "127.0.0.1", "-p", str(port)], log=subprocess.DEVNULL)  # type: ignore[arg-type]
    try:
        _wait_for(f"http://127.0.0.1:{port}/moto-api/")
        yield {"url": f"http://127.0.0.1:{port}"}
    finally:
        process.kill()
        process.communicate()


def _wait_for(url: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _START_S
    while True:
        try:
            with opener.open(url, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def checked(client: str, python: Path | str, told: dict[str, Any]) -> list[dict[str, Any]]:
    """What came of each check of one library."""
    command = [str(python), str(_HERE / f"{client}.py"), json.dumps(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_CHECKS_S)
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode and all(one["ok"] for one in found):
        found.append({"check": "the run itself", "ok": False, "error": done.stderr[-1500:]})
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The vendors' own clients against our emulators.")
    parser.add_argument("--only", choices=tuple(CLIENTS))
    only = parser.parse_args(arguments).only
    chosen = [only] if only else list(CLIENTS)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fleetwire-official-") as folder:
        print("installing the libraries …", flush=True)
        python = installed(Path(folder) / "environment")
        listed = subprocess.run(
            [str(python), "-m", "pip", "list", "--format=json"], capture_output=True, check=True, timeout=60
        )
        versions = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
        for client in chosen:
            with running(client) as told:
                found = checked(client, python, told)
            library = CLIENTS[client]
            results[library] = {"version": versions.get(library), "checks": found}
            print(f"{library} {versions.get(library)}", flush=True)
            for one in found:
                print(f"  {'ok    ' if one['ok'] else 'FAILED'} {one['check']} {one.get('error', '')}", flush=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "official_clients.json").write_text(json.dumps(results, indent=2) + "\n")
    failed = [one for result in results.values() for one in result["checks"] if not one["ok"]]
    return 1 if failed or not all(result["checks"] for result in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
