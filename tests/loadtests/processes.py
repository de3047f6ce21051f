"""Runs one of the load runs as a process, with a deadline."""

import asyncio
import os
import sys
from collections.abc import Mapping

DEADLINE_S = 50.0


async def run_python(*arguments: str, environ: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Its exit code and what it said. It is killed when the test ends before it does."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLEETWIRE_", "LOCUST_"))}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=clean | dict(environ or {}),
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, said.decode()
