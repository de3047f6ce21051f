"""The answer to a file that no handler takes: which one it was, and what may be sent instead. Never silence."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from worker.handlers.contract import Answer, Task

__all__ = ["UnknownHandler"]


class UnknownHandler:
    """Answers every file with `unknown`."""

    kind = "unknown"
    extensions: frozenset[str] = frozenset()

    def __init__(self, accepted: Sequence[str]) -> None:
        self._accepted = accepted

    def recognises(self, head: bytes) -> bool:
        """It is never looked for."""
        del head
        return False

    def run(self, task: Task) -> Answer:
        """Name the extension and what is taken."""
        extension = PurePosixPath(task.name).suffix[:32]
        what = f"files named *{extension}" if extension else "files without an extension"
        detail = f"no handler takes {what} with this content; send one of: {', '.join(self._accepted)[:300]}"
        return Answer("unknown", detail, summary={"extension": extension, "accepted": list(self._accepted)[:64]})
