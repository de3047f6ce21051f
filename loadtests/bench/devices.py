"""The devices of a benchmark: `devices.c` as a process, built for the run, asked line by line.

One driver for every server, so that what is compared is the servers.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from infra.onebox.spawn import launch_arguments
from loadtests.stand import Stand

__all__ = ["ACK_EVERY", "ACK_MS", "Devices", "NoCompiler", "build", "running_devices"]

ACK_EVERY: Final = 16
ACK_MS: Final = 500
"""As the SDK acks: after so many events, or so long after the first."""

CONNECTS_AT_ONCE: Final = 200


class NoCompiler(RuntimeError):
    """The benchmark's C programs cannot be built here."""

    def __init__(self) -> None:
        super().__init__("no C compiler: the bare relay and the devices are built with one (such as gcc)")


def build(name: str, folder: Path) -> Path:
    """One of the C programs that lie beside this file, built into `folder` once. Raises NoCompiler."""
    binary = folder / name
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler
    if not binary.exists():
        source = Path(__file__).with_name(f"{name}.c")
        subprocess.run([compiler, "-O2", "-o", str(binary), str(source), "-lm"], check=True)
    return binary


class Devices:
    """The process, with its pid for those who look at what it costs."""

    def __init__(self, process: "subprocess.Popen[str]", count: int) -> None:
        self._process = process
        self.count = count
        self.pid = process.pid

    def ask(self, order: str) -> dict[str, Any]:
        """One order (`report` or `count`), one answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{order}\n")
        self._process.stdin.flush()
        return self._read()

    def welcomed(self) -> float:
        """Wait until all are connected and welcomed; how many seconds that took. Asked once, first."""
        said = self._read()
        if not said["all"]:
            raise RuntimeError(f"only {said['welcomed']} of {self.count} devices were welcomed")
        return max(float(said["seconds"]), 1e-3)

    def wait_for(self, events: int, *, within_s: float) -> None:
        """Until so many events have come since the last report, or the time is over."""
        end = time.monotonic() + within_s
        while self.ask("count")["events"] < events and time.monotonic() < end:
            time.sleep(0.02)

    def report_when(self, expected: int, *, within_s: float, still_s: float) -> dict[str, Any]:
        """Report once so many events have come since the last report, or no more came for `still_s`."""
        events, last = 0, time.monotonic()
        end = last + within_s
        while events < expected and (now := time.monotonic()) < min(end, last + still_s):
            counted = self.ask("count")["events"]
            if counted > events:
                events, last = counted, now
            time.sleep(0.02)
        return self.ask("report")

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        said = self._process.stdout.readline()
        if not said:
            raise RuntimeError("the devices' process has ended")
        answer: dict[str, Any] = json.loads(said)
        return answer


@contextmanager
def running_devices(
    stand: Stand, port: int, names: Sequence[str], *, ack_every: int = ACK_EVERY, dialect: str = "fleetwire"
) -> Iterator[Devices]:
    """Devices that connect to `port` at once, a few hundred at a time, for the length of a block."""
    program = build("devices", stand.folder)
    arguments = [str(port), str(ack_every), str(ACK_MS), str(CONNECTS_AT_ONCE), dialect]
    with (stand.folder / "devices.log").open("ab") as log:
        process = subprocess.Popen(
            launch_arguments([str(program), *arguments]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write("".join(f"{name} {stand.token(name)}\n" for name in names) + "\n")
        process.stdin.flush()
        yield Devices(process, len(names))
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
