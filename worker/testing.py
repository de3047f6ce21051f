"""Try a handler as a worker would, in a test of a few lines; see docs/handlers.md.

`try_handler` calls it here, so that a debugger reaches it, with everything that the worker checks and catches.
`try_installed` finds it by its entry point and runs it in a process of the pool, with the bounds that it has there.
Neither needs a database, a Redis or a running set-up.
"""

import asyncio
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from random import SystemRandom
from typing import Any, Final

from shared.protocol.ids import file_name_problem
from worker.errors import AttemptFailed
from worker.handlers.contract import Answer, Handler, Outcome
from worker.handlers.registry import Registry, load_registry
from worker.pool import HandlerPool, PoolLimits
from worker.pool_process import carry_out
from worker.pool_wire import Order

__all__ = ["AttemptFailed", "Tried", "handler_problems", "try_handler", "try_installed"]

_KIND: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}", re.ASCII)
_EXTENSION: Final = re.compile(r"(?:\.[a-z0-9_-]+){1,3}", re.ASCII)
_READY_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Tried:
    """What the device would get: the answer, and the content of every file by name. `handler` is who gave it."""

    handler: str
    outcome: Outcome
    detail: str | None
    summary: dict[str, Any]
    files: dict[str, bytes]
    content_types: dict[str, str]
    seconds: float


def try_handler(
    handler: Handler,
    name: str,
    content: bytes | str,
    *,
    options: Mapping[str, Any] | None = None,
    kind: str = "unknown",
) -> Tried:
    """What this handler makes of a file; of one that it does not take, `unknown` is made.

    `options` are those of the operator, `{"<kind>.<name>": value}`; `kind` is the one that a job names, if it does.
    Raises AttemptFailed where a worker would try the job again: the handler raised something that is no refusal, or
    its answer breaks the contract.
    """
    if problems := handler_problems(handler):
        raise ValueError("; ".join(problems))
    with tempfile.TemporaryDirectory(prefix="fleetwire-try-") as folder:
        order = _order(Path(folder), name, content, options, kind)
        report = carry_out(Registry({handler.kind: handler}, ()), order)
        if report.answer is None:
            raise AttemptFailed(f"handler {report.handler}: {report.error}")
        return _tried(report.handler, report.answer, report.seconds, order)


def try_installed(
    name: str,
    content: bytes | str,
    *,
    options: Mapping[str, Any] | None = None,
    kind: str = "unknown",
    memory_mb: int = 500,
    timeout_s: float = 60.0,
) -> Tried:
    """What a worker of this environment makes of a file, with all handlers that are installed in it.

    Raises AttemptFailed where it would try the job again: also when the handler's process died or took too long; and
    ValueError when nothing takes the file and a handler that is installed cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="fleetwire-try-") as folder:
        order = _order(Path(folder), name, content, options, kind)
        tried = asyncio.run(_in_pool(order, memory_mb * 1_000_000, timeout_s))
    if tried.outcome == "unknown" and (problems := load_registry([]).problems):
        # A worker goes on without a handler that cannot be loaded; who tries one wants to know why.
        raise ValueError("; ".join(problems))
    return tried


async def _in_pool(order: Order, memory: int, timeout_s: float) -> Tried:
    pool = HandlerPool(
        1, environ=os.environ, limits=PoolLimits(memory=memory, start_s=_READY_S, nice=0), rand=SystemRandom()
    )
    try:
        await pool.start()
        done = await pool.run(order, timeout_s=timeout_s)
        return _tried(done.handler, done.answer, done.seconds, order)
    finally:
        await pool.close()


def handler_problems(handler: Handler) -> list[str]:
    """What of the contract this handler breaks, as far as that can be seen without a file."""
    problems = []
    kind = getattr(handler, "kind", None)
    if not isinstance(kind, str) or _KIND.fullmatch(kind) is None:
        problems.append(f"kind is {kind!r}: 1 to 64 characters of a-z 0-9 _ -")
    extensions = getattr(handler, "extensions", None)
    if not isinstance(extensions, frozenset | set):
        problems.append(f"extensions is {extensions!r}: a frozenset of strings")
    else:
        wrong = sorted(repr(one) for one in extensions if not isinstance(one, str) or not _EXTENSION.fullmatch(one))
        problems += [f"extension {one}: lower case with its dot, such as '.csv'" for one in wrong]
    for name in ("recognises", "run"):
        method = getattr(handler, name, None)
        if not callable(method):
            problems.append(f"it has no method {name}")
        elif iscoroutinefunction(method):
            problems.append(f"{name} is a coroutine function: handlers in a process of the pool are not")
    if not problems and not isinstance(handler.recognises(b""), bool):
        problems.append("recognises does not return a bool")
    return problems


def _order(folder: Path, name: str, content: bytes | str, options: Mapping[str, Any] | None, kind: str) -> Order:
    if problem := file_name_problem(name):
        raise ValueError(f"name: {problem}")
    source, output = folder / "request", folder / "output"
    source.write_bytes(content.encode() if isinstance(content, str) else content)
    output.mkdir()
    return Order(kind, name, str(source), str(output), dict(options or {}))


def _tried(handler: str, answer: Answer, seconds: float, order: Order) -> Tried:
    output = Path(order.output)
    return Tried(
        handler,
        answer.outcome,
        answer.detail,
        answer.summary,
        {file.name: (output / file.name).read_bytes() for file in answer.files},
        {file.name: file.content_type for file in answer.files},
        seconds,
    )
