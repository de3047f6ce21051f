"""Ends this process when its loop has stood still for too long, with the place it stands at in the log.

A coroutine that blocks cannot be cancelled, and takes everything with it: heartbeats, the other jobs, the wish to stop.
Its leases end and the next worker takes the job, and stands still as well. A worker that ends is started again, and a
job that ends its worker every time has its attempts counted like any other.
"""

import asyncio
import faulthandler
from typing import Final

__all__ = ["StallGuard"]

_PARTS: Final = 10.0


class StallGuard:
    """`run()` is the sign of life. The guard is a thread without Python, so nothing in the process can hold it up."""

    def __init__(self, stall_s: float) -> None:
        self._stall_s = stall_s

    async def run(self) -> None:
        """Until cancelled: then nobody is watched any more."""
        try:
            while True:
                faulthandler.dump_traceback_later(self._stall_s, exit=True)
                await asyncio.sleep(self._stall_s / _PARTS)
        finally:
            faulthandler.cancel_dump_traceback_later()
