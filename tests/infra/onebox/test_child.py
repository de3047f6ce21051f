"""One supervised process: restarted when it dies, stopped in time, never surviving."""

import asyncio
import io
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from infra.onebox.child import Child, ChildSpec
from infra.onebox.errors import ServerNotReady
from infra.onebox.log_lines import LogLines
from infra.onebox.spawn import launch_arguments
from tests.infra.onebox.conditions import until
from tests.infra.onebox.test_spawn import wait_gone

PATIENT = "import time; print('begun', flush=True); time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('begun', flush=True); time.sleep(60)"
PARENT_OF_ONE = (
    "import subprocess, sys, time; child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('child', child.pid, flush=True); time.sleep(60)"
)


@pytest.fixture
async def lines() -> AsyncIterator[LogLines]:
    lines = LogLines(io.StringIO(), colour=False)
    yield lines
    lines.close()


MakeChild = Callable[..., Child]


@pytest.fixture
async def make_child(lines: LogLines) -> AsyncIterator[MakeChild]:
    made: list[Child] = []

    def make(program: str, wait_ready: Callable[[], Awaitable[None]] | None = None) -> Child:
        async def has_begun() -> None:
            await until(lambda: lines.tail("thing"))

        spec = ChildSpec(
            name="thing",
            arguments=lambda: launch_arguments([sys.executable, "-c", program]),
            environment=dict(os.environ),
            wait_ready=wait_ready or has_begun,
        )
        made.append(Child(spec, lines, Random(1)))
        return made[-1]

    yield make
    for child in made:
        await child.stop(0.1)


async def test_a_child_that_is_killed_is_started_again(make_child: MakeChild) -> None:
    child = make_child(PATIENT)
    child.start()
    await child.wait_ready()
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.state == "ready")
    assert child.pid != first


async def test_a_child_that_cannot_be_started_again_now_is_started_when_it_can(
    make_child: MakeChild, lines: LogLines, tmp_path: Path
) -> None:
    child = make_child(PATIENT)
    folder = tmp_path / "there"
    folder.mkdir()
    child.spec = replace(child.spec, folder=str(folder))
    child.start()
    await child.wait_ready()
    folder.rmdir()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: any("cannot be started: [Errno 2]" in line for line in lines.tail("thing")))
    folder.mkdir()
    await until(lambda: child.state == "ready")


async def test_a_child_that_ends_well_by_itself_is_started_again_too(make_child: MakeChild, lines: LogLines) -> None:
    child = make_child("import time; print('begun', flush=True); time.sleep(0.5)")  # as a hub that was drained
    child.start()
    await child.wait_ready()
    await until(lambda: child.restarts == 1 and child.state == "ready")
    assert any("ended with status 0; starting it again" in line for line in lines.tail("thing"))


async def test_a_restart_is_said_with_how_the_process_ended(make_child: MakeChild, lines: LogLines) -> None:
    child = make_child(PATIENT)
    child.start()
    await child.wait_ready()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.state == "ready")
    assert any("was ended by SIGKILL; starting it again in" in line for line in lines.tail("thing"))


async def test_a_child_that_never_starts_is_given_up_with_what_it_said(make_child: MakeChild) -> None:
    child = make_child("import sys; sys.exit('no such setting')", wait_ready=asyncio.Event().wait)
    child.start()
    with pytest.raises(ServerNotReady, match=r"thing does not start: it ended with status 1[^$]*no such setting"):
        await child.wait_ready()


async def test_a_child_that_says_why_it_is_not_ready_is_quoted(make_child: MakeChild) -> None:
    async def refuse() -> None:
        raise ServerNotReady("set FLEETWIRE_POSTGRES_PORT")

    child = make_child(PATIENT, wait_ready=refuse)
    child.start()
    with pytest.raises(ServerNotReady, match="set FLEETWIRE_POSTGRES_PORT"):
        await child.wait_ready()


async def test_a_child_stops_when_asked(make_child: MakeChild) -> None:
    child = make_child(PATIENT)
    child.start()
    await child.wait_ready()
    pid = child.pid
    assert pid is not None
    await child.stop(5)
    assert child.state == "stopped"
    wait_gone(pid, 0.1)


async def test_a_child_that_does_not_hear_is_killed(make_child: MakeChild, lines: LogLines) -> None:
    child = make_child(DEAF)
    child.start()
    await child.wait_ready()
    pid = child.pid
    assert pid is not None
    await child.stop(0.2)
    wait_gone(pid, 0.1)
    assert any("did not end within" in line for line in lines.tail("thing"))


async def test_a_child_that_is_stopped_by_a_signal_still_hears_the_end(make_child: MakeChild, lines: LogLines) -> None:
    child = make_child(PATIENT)
    child.start()
    await child.wait_ready()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    await child.stop(5)
    assert not any("did not end within" in line for line in lines.tail("thing"))


async def test_what_a_dead_child_has_started_is_killed_before_the_next_start(
    make_child: MakeChild, lines: LogLines
) -> None:
    child = make_child(PARENT_OF_ONE)
    child.start()
    await child.wait_ready()
    grandchild = int(lines.tail("thing")[0].split()[1])
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await until(lambda: child.restarts == 1 and child.state == "ready")
    wait_gone(grandchild, 0.1)


async def test_stopping_during_the_backoff_does_not_wait_for_it(make_child: MakeChild) -> None:
    child = make_child("pass")
    child._backoff.attempt = 20
    child.start()
    await until(lambda: child.state == "waiting")
    async with asyncio.timeout(2):
        await child.stop(5)


async def test_a_line_without_end_is_passed_on_in_pieces(make_child: MakeChild, lines: LogLines) -> None:
    child = make_child(
        "import sys, time; sys.stdout.write('x' * 300_000 + '\\nend\\n'); sys.stdout.flush(); time.sleep(60)"
    )
    child.start()
    await until(lambda: lines.tail("thing")[-1:] == ["end"])
    assert max(len(line) for line in lines.tail("thing")) <= 8300
