"""Handlers that do everything a handler must not, offered as plug-ins of an installed package."""

import asyncio
import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from worker.handlers.async_contract import Context
from worker.handlers.contract import Answer, ResponseFile, Task


class _Handler:
    kind = "?"

    @property
    def extensions(self) -> frozenset[str]:
        return frozenset({f".{self.kind}"})

    def recognises(self, head: bytes) -> bool:
        return False

    def run(self, task: Task) -> Any:
        raise NotImplementedError


class Crash(_Handler):
    kind = "crash"

    def run(self, task: Task) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


class Exit(_Handler):
    kind = "exit"

    def run(self, task: Task) -> NoReturn:
        os._exit(3)


class Hang(_Handler):
    kind = "hang"

    def run(self, task: Task) -> NoReturn:
        while True:
            time.sleep(60)


class Gated(_Handler):
    """Says that it waits, then waits for the file that the request's content names; its answer differs every time."""

    kind = "gated"

    def run(self, task: Task) -> Answer:
        gate = Path(task.path.read_text())
        gate.with_suffix(".waiting").touch()
        while not gate.exists():
            time.sleep(0.01)
        (task.output / "result.txt").write_bytes(os.urandom(16))
        return Answer("processed", files=(ResponseFile("result.txt", "text/plain"),))


class Late(_Handler):
    """Fails until the file is there that the request's content names."""

    kind = "late"

    def run(self, task: Task) -> Answer:
        if not Path(task.path.read_text()).exists():
            raise RuntimeError("not there yet")
        (task.output / "result.txt").write_text("at last")
        return Answer("processed", files=(ResponseFile("result.txt", "text/plain"),))


class Greedy(_Handler):
    kind = "greedy"

    def run(self, task: Task) -> Answer:
        held = bytearray(700_000_000)
        return Answer("processed", summary={"held": len(held)})


class Hoard(_Handler):
    """Keeps what it allocated."""

    kind = "hoard"
    kept: ClassVar[list[bytes]] = []

    def run(self, task: Task) -> Answer:
        self.kept.append(os.urandom(40_000_000))
        return Answer("processed", summary={"pid": os.getpid()})


class Sharer(_Handler):
    """Takes memory that is shared, which no limit of a process counts, and keeps it for as long as it is let."""

    kind = "sharer"

    def run(self, task: Task) -> Answer:
        held = mmap.mmap(-1, 400_000_000)
        for at in range(0, len(held), mmap.PAGESIZE):
            held[at] = 1
        time.sleep(60)
        return Answer("processed", summary={"held": len(held)})


class Family(_Handler):
    """Starts a child, says its process id, and then does what the file's content names."""

    kind = "family"

    def run(self, task: Task) -> Answer:
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.DEVNULL)
        (task.path.parent / "child.tmp").write_text(str(child.pid))
        (task.path.parent / "child.tmp").rename(task.path.parent / "child")
        what = task.path.read_text()
        if what == "hang":
            time.sleep(600)
        if what == "crash":
            os.kill(os.getpid(), signal.SIGKILL)
        return Answer("processed", summary={"pid": os.getpid()})


class Raise(_Handler):
    kind = "raise"

    def run(self, task: Task) -> NoReturn:
        raise RuntimeError("broken handler")


class Chatty(_Handler):
    kind = "chatty"

    def run(self, task: Task) -> Answer:
        os.write(1, b"\xff\xff\xff\xff this would be a length\n")
        print("and this a message")
        return Answer("processed", summary={"pid": os.getpid(), "environ": sorted(os.environ)})


class Wrong(_Handler):
    """Breaks the contract in the way the file's content names."""

    kind = "wrong"

    def run(self, task: Task) -> Any:
        what = task.path.read_text()
        if what == "type":
            return {"outcome": "processed"}
        if what == "summary":
            return Answer("processed", summary={"x": "y" * 100_000})
        (task.output / "a.txt").write_text("a")
        if what == "link":
            (task.output / "link").symlink_to("/etc/passwd")
        files = {
            "missing": ["not-there.txt"],
            "traversal": ["../a.txt"],
            "document": ["Response.json"],
            "twice": ["a.txt", "a.txt"],
            "many": [f"{n}.txt" for n in range(100)],
            "link": ["link"],
        }[what]
        return Answer("processed", files=tuple(ResponseFile(name, "text/plain") for name in files))


class Count(_Handler):
    """Counts its runs in a file beside the request's name, and answers something else every time."""

    kind = "count"

    def run(self, task: Task) -> Answer:
        ledger = Path(str(task.options["count.ledger"]))
        with ledger.open("a") as file:
            file.write(f"{task.name}\n")
        (task.output / "result.txt").write_bytes(os.urandom(16))
        (task.output / "same.txt").write_text("the same every time")
        return Answer(
            "processed", files=(ResponseFile("result.txt", "text/plain"), ResponseFile("same.txt", "text/plain"))
        )


class Fell:
    """A coroutine that takes the whole worker along."""

    kind = "fell"
    extensions = frozenset({".fell"})

    async def handle(self, task: Task, context: Context) -> Answer:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("dead")


class Stuck:
    """A coroutine that keeps the loop for itself."""

    kind = "stuck"
    extensions = frozenset({".stuck"})

    async def handle(self, task: Task, context: Context) -> Answer:
        time.sleep(600)
        raise AssertionError("awake")


class Waits:
    """A coroutine that waits for ever, as it should."""

    kind = "waits"
    extensions = frozenset({".waits"})

    async def handle(self, task: Task, context: Context) -> Answer:
        await asyncio.sleep(600)
        raise AssertionError("awake")


class Small:
    """Answers from what it is told alone; `fail` fails, `long` answers more than an event carries."""

    kind = "small"
    extensions: ClassVar[frozenset[str]] = frozenset()
    small = True

    async def handle(self, task: Task, context: Context) -> Answer:
        if task.body is None:
            return Answer("processed", summary={"read": task.path.read_text()})
        told = task.body.decode()
        if told == "fail":
            raise RuntimeError("as it was told")
        if told == "file":
            return Answer("processed", files=(ResponseFile("a.txt", "text/plain"),))
        return Answer("processed", summary={"told": told * 5000 if told == "long" else told})


def install(folder: Path) -> None:
    """Write the metadata of an installed package that offers these handlers; the folder goes on PYTHONPATH."""
    info = folder / "fleetwire_test_handlers-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fleetwire-test-handlers\nVersion: 1.0\n")
    names = [Crash, Exit, Hang, Gated, Greedy, Hoard, Raise, Chatty, Wrong, Count, Late, Sharer, Family]
    lines = [f"{handler.kind} = {__name__}:{handler.__name__}" for handler in names]
    lines.append("absent = no_such_module:Handler")
    waiting = [f"{handler.kind} = {__name__}:{handler.__name__}" for handler in (Fell, Small, Stuck, Waits)]
    waiting.insert(0, "[fleetwire.async_handlers]")
    (info / "entry_points.txt").write_text("\n".join(["[fleetwire.handlers]", *lines, "", *waiting, ""]))
