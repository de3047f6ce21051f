"""A handler that does nothing, for measuring the path itself. Offered only when the operator turns it on."""

from worker.handlers.contract import Answer, Task

__all__ = ["NoopHandler"]


class NoopHandler:
    """`*.noop` → an answer without files."""

    kind = "noop"
    extensions = frozenset({".noop"})

    def recognises(self, head: bytes) -> bool:
        """Only the extension asks for it."""
        del head
        return False

    def run(self, task: Task) -> Answer:
        """Nothing."""
        del task
        return Answer("processed")
