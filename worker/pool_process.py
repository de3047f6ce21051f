"""A pool process: takes one file after another and runs its handler, alone, within bounds it cannot lift.

It is started by `pool.py` with an environment that holds no secret, dies with the worker, and may be killed at any
moment. Memory is bounded by the kernel (RLIMIT_DATA counts what is allocated, not what libraries map), so a handler
that needs too much gets a MemoryError, and the machine keeps its memory.
"""

import argparse
import gc
import os
import resource
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, Final

from shared.clock import monotonic
from shared.parent_death import die_with_parent
from worker.handlers.answer_check import check_answer
from worker.handlers.contract import ERROR_MAX_CHARS, Answer, Handler, Refusal
from worker.handlers.model_input import ModelInputHandler
from worker.handlers.noop import NoopHandler
from worker.handlers.photo import PhotoHandler
from worker.handlers.registry import HEAD_BYTES, Registry, load_registry
from worker.handlers.table import TableHandler
from worker.pool_wire import Hello, Order, Report, pack, read_message

__all__ = ["main"]

_OPEN_FILES_MAX: Final = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the worker closes the pipe."""
    parser = argparse.ArgumentParser(prog="worker.pool_process")
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--memory", type=int, required=True, help="bytes")
    parser.add_argument("--file-size", type=int, required=True, help="bytes of one written file")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--noop", action="store_true")
    given = parser.parse_args(arguments)
    die_with_parent(given.parent)
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)  # what handlers start is of this group, and is killed with it; the session stays the worker's
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the worker decides
    os.nice(given.nice)
    orders, reports = _take_pipes()
    builtin: list[Handler] = [PhotoHandler(), TableHandler(), ModelInputHandler()]
    if given.noop:
        builtin.append(NoopHandler())
    registry = load_registry(builtin)
    _limit(given.memory, given.file_size)
    reports.write(pack(Hello(os.getpid(), sorted(registry.handlers), list(registry.problems)[:32])))
    reports.flush()
    gc.collect()
    gc.freeze()  # what is loaded stays: a collection looks only at what handlers leave behind
    while (order := read_message(orders, Order)) is not None:
        reports.write(pack(carry_out(registry, order)))
        reports.flush()
        gc.collect()
    return 0


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes to ourselves: what a library prints goes to standard error and cannot garble a report."""
    orders, reports = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, reports


def _limit(memory: int, file_size: int) -> None:
    which = resource.RLIMIT_DATA if sys.platform.startswith("linux") else resource.RLIMIT_AS
    for what, bound in (
        (which, memory),
        (resource.RLIMIT_FSIZE, file_size),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES_MAX),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        try:
            resource.setrlimit(what, (allowed, allowed))
        except (OSError, ValueError) as error:  # macOS takes no bound on memory; the worker still recycles
            print(f"pool process: limit {what} of {allowed} is not applied: {error}", file=sys.stderr)  # noqa: T201


def carry_out(registry: Registry, order: Order) -> Report:
    began = monotonic()
    name = order.kind
    answer: Answer | None = None
    error: str | None = None
    try:
        task = order.task()
        with task.path.open("rb") as file:
            handler = registry.choose(order.kind, order.name, file.read(HEAD_BYTES))
        name = handler.kind
        try:
            answer = handler.run(task)
        except Refusal as refusal:
            answer = refusal.answer()
        except MemoryError:
            # The same file would need the same memory again.
            answer = Answer("too_large", "processing the file needs more memory than a handler may use")
        check_answer(answer, task)
    except Exception as failure:  # noqa: BLE001 - a handler may raise anything; it costs this attempt
        traceback.print_exc(limit=20)
        answer, error = None, f"{type(failure).__name__}: {failure}"[:ERROR_MAX_CHARS]
    return Report(name, monotonic() - began, _resident(), answer, error)


def _resident() -> int:
    """Bytes of memory held now; the peak where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    sys.exit(main())
