"""Large blocks go back to the system as soon as they are free.

glibc's allocator raises its threshold for blocks of their own to the largest it has seen freed, puts the next ones into
the heap of the thread that asks, and keeps those. After a hundred devices that did not read a hub stayed up to 90 MiB
larger than it had been; an upload of parts of 10 MiB held twice what was on its way. Not so with a fixed threshold.
"""

import ctypes
import sys
from typing import Final

__all__ = ["LARGE_BYTES", "give_back_large_blocks"]

LARGE_BYTES: Final = 128 * 1024  # where glibc begins; frames and reads from the bus are smaller
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_TRIM_BYTES: Final = 1024 * 1024


def give_back_large_blocks() -> bool:
    """Ask for it, once, before the process has grown. False where the allocator is another one."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES) and mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES))
