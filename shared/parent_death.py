"""A child that must not outlive its parent. It imports next to nothing: some processes are started often."""

import ctypes
import os
import signal
import sys
import threading
from typing import Final

__all__ = ["die_with_parent"]

_PR_SET_PDEATHSIG: Final = 1


def die_with_parent(parent_pid: int) -> None:
    """From now on this process is killed when `parent_pid` ends; it exits here if that has happened already.

    Linux does it in the kernel; the thread of the parent that started us must live on, so supervisors start children
    from their main thread. Elsewhere a thread looks once a second.
    """
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    else:
        threading.Thread(target=_watch_parent, args=(parent_pid,), name="parent-watch", daemon=True).start()
    # Asked after the request: the parent may have died before it took effect, and then no signal comes.
    if os.getppid() != parent_pid:
        os._exit(1)


def _watch_parent(parent_pid: int) -> None:
    idle = threading.Event()
    while os.getppid() == parent_pid:
        idle.wait(1.0)
    os._exit(1)
