"""The temporary folder of a run, gone when the run is, however it ends: SIGTERM ends it as Ctrl-C does.

Without that a run that was asked to stop left its database behind, and, with the folder, the memory of what it was for.
A run that failed may keep it, to be looked at.
"""

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from infra.onebox.home import Home

__all__ = ["Terminated", "run_folder"]


class Terminated(SystemExit):
    """Somebody asked the run to end."""


@contextmanager
def run_folder(prefix: str, *, keep: bool = False, keep_failed: bool = False) -> Iterator[Path]:
    """A folder for the length of a block, in which `home` may become a Fleetwire's home."""
    with _ended_by_sigterm():
        folder = Path(tempfile.mkdtemp(prefix=prefix))
        folder.chmod(0o755)
        try:
            yield folder
        except Exception:
            keep = keep or keep_failed
            raise
        finally:
            if not keep:
                # Where Postgres' user cannot reach our folders, its files lie apart.
                apart = Path(f"/var/tmp/fleetwire-{Home(folder / 'home').fingerprint}")
                for left in (folder, apart):
                    shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """SIGTERM raises Terminated in the main thread, once. Where somebody else handles it, that stays."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    run = os.getpid()

    def on_sigterm(signum: int, frame: FrameType | None) -> None:
        if os.getpid() != run:
            os._exit(128 + signum)  # a fork of the run has nothing to tidy up
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise Terminated(128 + signum)

    signal.signal(signal.SIGTERM, on_sigterm)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
