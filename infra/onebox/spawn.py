"""Starts one program that must not outlive whoever started it.

Run as a program of its own (`python -I -S spawn.py … -- program …`), because what it does between fork and exec is not
safe in a process with threads. The order matters: the kernel forgets the parent-death signal when the user changes, so
it is set after that, and the parent is looked at again after it is set, because it may have died before. The kernel
watches the *thread* that forked: start processes only from a thread that lives as long as the process, such as the main
one.

Imports the standard library only: it starts before anything else is found.
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["launch_arguments"]

_PR_SET_PDEATHSIG = 1
_EXIT_NOT_STARTED = 127


def launch_arguments(
    program: Sequence[str], *, death_signal: signal.Signals = signal.SIGKILL, user: str | None = None
) -> list[str]:
    """The argument list that starts `program` as a child of this process, in a session of its own.

    A session of its own keeps a Ctrl-C at the terminal with the supervisor, which then stops the others in order.
    """
    arguments = [sys.executable, "-I", "-S", str(Path(__file__)), f"--parent={os.getpid()}"]
    arguments.append(f"--death-signal={int(death_signal)}")
    if user is not None:
        arguments.append(f"--user={user}")
    return [*arguments, "--", *program]


def main() -> int:
    """Become the program that the arguments name. Returns only when that fails."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--death-signal", type=int, required=True)
    parser.add_argument("--user")
    parser.add_argument("program", nargs="+")
    options = parser.parse_args()
    os.setsid()
    if options.user is not None:
        _become(options.user)
    _die_with_parent(options.death_signal)
    if os.getppid() != options.parent:
        return _EXIT_NOT_STARTED
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    try:
        os.execv(options.program[0], options.program)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"{options.program[0]}: cannot be started: {error.strerror}", file=sys.stderr)
        return _EXIT_NOT_STARTED


def _become(user: str) -> None:
    entry = pwd.getpwnam(user)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    os.environ["HOME"] = "/"


def _die_with_parent(death_signal: int) -> None:
    if not sys.platform.startswith("linux"):
        return  # no such call: there an orphan ends when its supervisor is started again
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


if __name__ == "__main__":
    sys.exit(main())
