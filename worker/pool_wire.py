"""What the worker and its pool processes say to each other: length-prefixed messages over two pipes."""

from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

import msgspec

from worker.handlers.contract import Answer, Task

__all__ = ["LENGTH_BYTES", "MESSAGE_MAX_BYTES", "Hello", "Order", "Report", "pack", "read_message", "unpack"]

MESSAGE_MAX_BYTES: Final = 1024 * 1024
LENGTH_BYTES: Final = 4

M = TypeVar("M")


class Hello(msgspec.Struct, frozen=True):
    """A process is ready; `problems` are handlers that could not be loaded."""

    pid: int
    kinds: list[str]
    problems: list[str]


class Order(msgspec.Struct, frozen=True):
    """One file to handle."""

    kind: str
    name: str
    path: str
    output: str
    options: dict[str, Any]

    def task(self) -> Task:
        """As the handler sees it."""
        return Task(self.name, Path(self.path), Path(self.output), self.options)


class Report(msgspec.Struct, frozen=True):
    """What came of it: an answer, or the error that this attempt ended with. `resident` is the memory still held."""

    handler: str
    seconds: float
    resident: int
    answer: Answer | None = None
    error: str | None = None


def pack(message: msgspec.Struct) -> bytes:
    """A message with its length before it. Raises ValueError when it is too long."""
    body = msgspec.json.encode(message)
    if len(body) > MESSAGE_MAX_BYTES:
        raise ValueError(f"message of {len(body)} bytes; at most {MESSAGE_MAX_BYTES}")
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def unpack(body: bytes, kind: type[M]) -> M:
    """The message in `body`. Raises ValueError."""
    return msgspec.json.decode(body, type=kind)


def read_message(stream: BinaryIO, kind: type[M]) -> M | None:
    """Block for the next message; None at the end of the stream. Raises ValueError for what is none."""
    prefix = stream.read(LENGTH_BYTES)
    if len(prefix) < LENGTH_BYTES:
        return None
    length = int.from_bytes(prefix, "big")
    if length > MESSAGE_MAX_BYTES:
        raise ValueError(f"message of {length} bytes announced; at most {MESSAGE_MAX_BYTES}")
    body = stream.read(length)
    return unpack(body, kind) if len(body) == length else None
