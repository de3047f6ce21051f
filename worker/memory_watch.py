"""How much memory a handler's process and its children really hold, for what no limit of the kernel counts.

RLIMIT_DATA refuses a process more private memory than it may have, and holds. It does not count memory that is shared
(`multiprocessing.shared_memory`, an anonymous map), and every child has a limit of its own. So the whole family is
looked at from outside, several times a second; files that are only mapped are not counted, they cost nobody memory.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

__all__ = ["family_bytes"]

_COUNTED: Final = ("RssAnon:", "RssShmem:", "VmSwap:")
_FAMILY_MAX: Final = 256
_KB: Final = 1024


def family_bytes(pid: int, *, enough: int, proc: Path = Path("/proc")) -> int:
    """Bytes held by a process and all below it. Pages that they share count once, but only above `enough` is it
    looked at so closely. 0 when there is no such process, or no such system."""
    family = list(_family(pid, proc))
    held = sum(_resident(one, proc) for one in family)
    if held <= enough or len(family) == 1:
        return held
    return sum(_proportional(one, proc) for one in family)


def _family(pid: int, proc: Path) -> Iterator[int]:
    waiting, seen = [pid], 0
    while waiting and seen < _FAMILY_MAX:
        one = waiting.pop()
        seen += 1
        yield one
        for task in _listed(proc / str(one) / "task"):
            waiting.extend(int(child) for child in _text(task / "children").split())


def _listed(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _resident(pid: int, proc: Path) -> int:
    return sum(_numbers(_text(proc / str(pid) / "status"), _COUNTED))


def _proportional(pid: int, proc: Path) -> int:
    """Each page's part: a page of two processes is half a page of each."""
    parts = sum(_numbers(_text(proc / str(pid) / "smaps_rollup"), ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")))
    return parts or _resident(pid, proc)


def _numbers(text: str, names: tuple[str, ...]) -> Iterator[int]:
    for line in text.splitlines():
        if line.startswith(names):
            yield int(line.split()[1]) * _KB


def _text(file: Path) -> str:
    try:
        return file.read_text("ascii", "replace")
    except OSError:
        return ""
