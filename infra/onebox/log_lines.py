"""The lines that the supervised processes say, each behind its process's name, on the supervisor's standard error.

A terminal that stands still must stop nobody: lines wait in a bounded queue for a thread that writes them, and when it
is full they are dropped and counted. A line is cut at a length and stripped of control characters, so that no process
can move the cursor. Lines of the embedded servers that say nothing to anybody here are left out.
"""

import queue
import re
import sys
import threading
from collections import deque
from typing import Final, TextIO

__all__ = ["LINE_MAX", "LogLines"]

QUEUE_MAX: Final = 10_000
LINE_MAX: Final = 8_192
TAIL_LINES: Final = 30
_COLOURS: Final = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_NAMED: Final = re.compile(r"(\d\d:\d\d:\d\d\.\d{3} [a-z]+ +)([a-z]+)[0-9-]*: ")
_NOISE: Final = {
    # It saves nothing and has no replica.
    "valkey": "Memory overcommit must be enabled",
    # We ask from its first moment on.
    "postgres": "the database system is starting up",
}
_ANSI: Final = re.compile(r"\x1b\[[0-9;]*m")


class LogLines:
    """`say()` never waits. `close()` writes what is queued, within a second."""

    def __init__(self, stream: TextIO | None = None, *, colour: bool | None = None) -> None:
        self._stream = stream or sys.stderr
        self._colour = self._stream.isatty() if colour is None else colour
        self._queue: queue.Queue[str | threading.Event | None] = queue.Queue(QUEUE_MAX)
        self._tails: dict[str, deque[str]] = {}
        self.dropped = 0
        self._width = 8
        self._thread = threading.Thread(target=self._write, name="log-lines", daemon=True)
        self._thread.start()

    def say(self, name: str, line: str) -> None:
        """Queue one line of a process. Colours stay when we show colours."""
        clean = _cleaned(line)
        self._tails.setdefault(name, deque(maxlen=TAIL_LINES)).append(_ANSI.sub("", clean))
        if name in _NOISE and _NOISE[name] in clean:
            return
        named = _NAMED.match(clean)
        if named is not None and name.startswith(named[2]):
            clean = named[1] + clean[named.end() :]  # it stands in front of the line already
        self._width = max(self._width, len(name))
        self._offer(f"{self._prefix(name)}{clean if self._colour else _ANSI.sub('', clean)}\n")

    def plain(self, text: str) -> None:
        """Queue text for people, without a prefix."""
        self._offer(text if text.endswith("\n") else f"{text}\n")

    def tail(self, name: str) -> list[str]:
        """The last lines that a process said."""
        return list(self._tails.get(name, ()))

    def flush(self, timeout_s: float = 1.0) -> None:
        """Wait until what was queued is written, but not for long."""
        written = threading.Event()
        try:
            self._queue.put(written, timeout=timeout_s)
        except queue.Full:
            return
        written.wait(timeout_s)

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what is queued and end the thread; a stream that does not take it is left."""
        if self.dropped:
            self._offer(f"{self.dropped} log lines were dropped because this terminal did not take them\n")
        try:
            self._queue.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(timeout_s)

    def _prefix(self, name: str) -> str:
        padded = f"{name:<{self._width}} │ "
        if not self._colour:
            return padded
        colour = _COLOURS[sum(name.encode()) % len(_COLOURS)]
        return f"\x1b[{colour}m{padded}\x1b[0m"

    def _offer(self, text: str) -> None:
        try:
            self._queue.put_nowait(text)
        except queue.Full:
            self.dropped += 1

    def _write(self) -> None:
        while (text := self._queue.get()) is not None:
            try:
                if isinstance(text, threading.Event):
                    self._stream.flush()
                    text.set()
                    continue
                self._stream.write(text)
                if self._queue.empty():
                    self._stream.flush()
            except (OSError, ValueError):
                pass  # nobody reads any more: go on emptying the queue
        try:
            self._stream.flush()
        except (OSError, ValueError):
            pass


def _cleaned(line: str) -> str:
    # Colours are set aside while the rest of the control characters is taken out.
    parts = _ANSI.split(line)
    colours = [*_ANSI.findall(line), ""]
    text = "".join(_CONTROL.sub("", part) + colour for part, colour in zip(parts, colours, strict=True))
    return text if len(text) <= LINE_MAX else f"{text[:LINE_MAX]}… (cut)"
