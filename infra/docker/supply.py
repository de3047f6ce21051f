"""What is in the image, and whether something is known against it: `python -m infra.docker.supply sbom|scan`.

The tools are not of the environment that they look at: they are put into one of their own, from a lock, for the length
of the run (or kept in a folder that is named). `sbom` writes a CycloneDX document of what requirements.lock brings, the
same bytes for the same lock. `scan` asks the public service of advisories about every version; an answer about none of
them is no clean bill, so it is told apart: 0 nothing known, 1 something known, 3 the service could not be asked.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Verdict", "judge", "main"]

TOP: Final = Path(__file__).parents[2]
TOOLS: Final = Path(__file__).parent / "tools" / "requirements.txt"
LOCK: Final = TOP / "requirements.lock"
NOT_ASKED: Final = 3
_DEADLINE_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of a scan: how many were asked about, how many could not be, and what is known."""

    asked: int
    skipped: int
    known: tuple[str, ...]

    @property
    def code(self) -> int:
        """To exit with."""
        return 1 if self.known else NOT_ASKED if not self.asked or self.skipped else 0

    @property
    def said(self) -> str:
        """For people."""
        if self.known:
            return "\n".join([f"{len(self.known)} known:", *self.known])
        if not self.asked:
            return f"nothing was scanned: the service of advisories told nothing about any of {self.skipped} packages"
        if self.skipped:
            return f"{self.asked} packages are clean; about {self.skipped} nothing was told"
        return f"{self.asked} packages, nothing known against any"


def judge(report: dict[str, Any]) -> Verdict:
    """Of pip-audit's JSON."""
    packages = report["dependencies"]
    skipped = [one for one in packages if "skip_reason" in one]
    known = [
        f"{one['name']} {one['version']}: {found['id']}, mended in {', '.join(found['fix_versions']) or 'no version'}"
        for one in packages
        for found in one.get("vulns", ())
    ]
    return Verdict(len(packages) - len(skipped), len(skipped), tuple(known))


def _installed(folder: Path) -> Path:
    """The folder of the tools' commands."""
    binaries = folder / "bin"
    if not (binaries / "pip-audit").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=_DEADLINE_S)
        pip = [str(binaries / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--require-hashes", "-r", str(TOOLS)], check=True, timeout=_DEADLINE_S)
    return binaries


def _sbom(binaries: Path, file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [str(binaries / "cyclonedx-py"), "requirements", str(LOCK), "--pyproject", str(TOP / "pyproject.toml")]
    command += ["--output-reproducible", "--sv", "1.6", "--of", "JSON", "--validate", "-o", str(file)]
    done = subprocess.run(command, check=False, timeout=_DEADLINE_S, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        return done.returncode
    print(f"{len(json.loads(file.read_text('utf-8'))['components'])} packages in {file}")
    return 0


def _scan(binaries: Path) -> int:
    command = [str(binaries / "pip-audit"), "-r", str(LOCK), "--require-hashes", "--disable-pip", "--format", "json"]
    done = subprocess.run(
        [*command, "--progress-spinner", "off"], check=False, timeout=_DEADLINE_S, capture_output=True, text=True
    )
    try:
        verdict = judge(json.loads(done.stdout))
    except (ValueError, KeyError):
        print(f"nothing was scanned: {done.stderr.strip()[-500:]}", file=sys.stderr)
        return NOT_ASKED
    print(verdict.said)
    return verdict.code


def main(arguments: list[str] | None = None) -> int:
    """Run one of the two."""
    parser = argparse.ArgumentParser(prog="python -m infra.docker.supply", description=__doc__)
    parser.add_argument("what", choices=["sbom", "scan"])
    parser.add_argument("--tools", type=Path, help="folder that keeps the tools for the next time")
    parser.add_argument("--out", type=Path, default=TOP / "dist" / "fleetwire.cdx.json", help="the document")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        folder = options.tools or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fleetwire-tools-")))
        binaries = _installed(folder)
        return _sbom(binaries, options.out) if options.what == "sbom" else _scan(binaries)


if __name__ == "__main__":
    sys.exit(main())
