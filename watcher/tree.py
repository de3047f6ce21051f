"""The watched folders of the process: one inotify instance, one entry per folder, events turned into notices about
paths.

A folder is watched before it is listed, so whatever comes into it afterwards is told and whatever was there is found.
A folder that is moved away is forgotten at once with all below it, since the kernel goes on telling of it under its
old path. Whenever events may have been missed (the kernel's queue overflowed, the disk was unmounted), `on_lost` says
so, and only a scan helps.
"""

import asyncio
import errno
import threading
from typing import Final, Protocol

import structlog

from watcher import inotify
from watcher.inotify import Event
from watcher.pacing import Notice

_log = structlog.get_logger(__name__)

_READS_A_TURN: Final = 4


class EventSource(Protocol):
    """What the tree needs of inotify; tests put a queue in its place."""

    fd: int

    def add(self, folder_fd: int) -> int: ...

    def remove(self, watch: int) -> None: ...

    def read(self) -> list[Event]: ...

    def close(self) -> None: ...


class Listener(Protocol):
    """Who is told. All calls come from the loop and must not wait."""

    def on_notice(self, path: str, what: Notice) -> None:
        """Something happened to a file."""

    def on_folder(self, path: str) -> None:
        """A folder came or went: scan it."""

    def on_lost(self, reason: str) -> None:
        """Events were missed: scan everything."""


class WatchedTree:
    """Folders by path and by watch. `watch` may be called from any thread, all else from the loop's."""

    def __init__(self, source: EventSource | None) -> None:
        """Without a source nothing is watched, and only scans find anything."""
        self._source = source
        self._listener: Listener | None = None
        self._lock = threading.Lock()
        self._paths: dict[int, str] = {}
        self._watches: dict[str, int] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self.complete = source is not None
        """Whether every folder that should be watched is: otherwise scans must come often."""

    def __repr__(self) -> str:
        return f"WatchedTree({len(self._paths)} folders, {'complete' if self.complete else 'incomplete'})"

    def __len__(self) -> int:
        return len(self._paths)

    def paths(self) -> list[str]:
        """The folders that are watched."""
        with self._lock:
            return list(self._watches)

    def start(self, listener: Listener) -> None:
        """Begin to listen on the running loop."""
        self._listener = listener
        if self._source is not None:
            self._loop = asyncio.get_running_loop()
            self._loop.add_reader(self._source.fd, self.drain)

    def close(self) -> None:
        """Listen no more."""
        if self._source is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._source.fd)
            self._source.close()
            self._source = None

    def watch(self, folder_fd: int, path: str) -> None:
        """Watch an open folder under this path."""
        if self._source is None:
            return
        # The lock is held over both steps, or an event could come for a watch that has no path yet.
        with self._lock:
            try:
                number = self._source.add(folder_fd)
            except OSError as error:
                if self.complete:
                    hint = "raise fs.inotify.max_user_watches" if error.errno == errno.ENOSPC else ""
                    _log.warning("a folder cannot be watched, polling instead", error=str(error), hint=hint)
                self.complete = False
                return
            old_path = self._paths.get(number)
            if old_path is not None and old_path != path:
                self._watches.pop(old_path, None)
            old_watch = self._watches.get(path)
            if old_watch is not None and old_watch != number:
                self._paths.pop(old_watch, None)
                self._source.remove(old_watch)
            self._paths[number] = path
            self._watches[path] = number

    def forget(self, *paths: str, below: bool = True) -> None:
        """End the watches of folders and of all below them (nothing is below a folder that was removed)."""
        if self._source is None:
            return
        prefixes = tuple(path + "/" for path in paths)
        with self._lock:
            found = {path for path in paths if path in self._watches}
            if below:
                found |= {path for path in self._watches if path.startswith(prefixes)}
            for path in found:
                number = self._watches.pop(path)
                self._paths.pop(number, None)
                self._source.remove(number)

    def drain(self) -> None:
        """Tell what has happened, a bounded part of it in one turn of the loop."""
        for _ in range(_READS_A_TURN):
            if self._source is None or self._listener is None:
                return
            try:
                events = self._source.read()
            except OSError as error:
                self._listener.on_lost(str(error))
                return
            if not events:
                return
            for event in events:
                self._tell(event, self._listener)

    def _tell(self, event: Event, listener: Listener) -> None:
        mask = event.mask
        if mask & (inotify.Q_OVERFLOW | inotify.UNMOUNT):
            listener.on_lost("overflow" if mask & inotify.Q_OVERFLOW else "unmount")
            return
        with self._lock:
            folder = self._paths.get(event.watch)
            if mask & inotify.IGNORED:
                if folder is not None:
                    del self._paths[event.watch]
                    if self._watches.get(folder) == event.watch:
                        del self._watches[folder]
                return
        if folder is None:
            return
        if mask & (inotify.DELETE_SELF | inotify.MOVE_SELF):
            self.forget(folder)
            listener.on_folder(folder)
            return
        path = f"{folder}/{event.name}"
        if mask & inotify.ISDIR:
            self._tell_of_folder(path, mask, listener)
        elif mask & inotify.OPEN:
            listener.on_notice(path, Notice.OPENED)
        elif mask & inotify.CLOSE_WRITE:
            listener.on_notice(path, Notice.CLOSED)
        elif mask & inotify.CREATE:
            listener.on_notice(path, Notice.CREATED)
        elif mask & inotify.MOVED_TO:
            listener.on_notice(path, Notice.MOVED_IN)
        elif mask & (inotify.MOVED_FROM | inotify.DELETE):
            listener.on_notice(path, Notice.REMOVED)

    def _tell_of_folder(self, path: str, mask: int, listener: Listener) -> None:
        if mask & (inotify.MOVED_FROM | inotify.DELETE):
            self.forget(path, below=bool(mask & inotify.MOVED_FROM))
            listener.on_folder(path)
        elif mask & (inotify.CREATE | inotify.MOVED_TO):
            listener.on_folder(path)
