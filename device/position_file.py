"""The position file: how far the application has come, and which event it was working on.

A journal of short lines, each with its checksum, rewritten as a whole when it has grown: a new file beside it, fsync,
rename, so there is always one that is complete. A lock beside it (the journal itself is replaced) keeps a second client
of this device on this machine away. Writing a line is enough to outlive the process; `sync()` makes it outlive the
machine, and the client calls it before each ack, so that the server never knows more than this file.

What is found damaged is never guessed at: a torn end is what a power cut leaves and is dropped, which only means that
some events come again; anything else is set aside, and the server's acked position counts.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

from device.errors import PositionFileCorrupt, PositionFileError, PositionFileLocked
from device.seen import Begun, InProgress, Seen, SeenEvent
from shared.protocol.ids import check_device_id
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["OnCorrupt", "PositionFile"]

OnCorrupt = Literal["restart", "raise"]

_FORMAT: Final = "fleetwire-position-1"
_READ_MAX: Final = 16 * 1024 * 1024
_REWRITE_AT: Final = 1024 * 1024


class _DamagedError(ValueError):
    pass


class PositionFile:
    """One device's file in one folder: `<device>.position`, and its lock `<device>.position.lock`.

    Lines: `P` position · `S` a body has begun · `F` it has ended · `I` a finished event's identity · `L` the position
    was lost.
    """

    def __init__(self, folder: Path, device_id: str, *, on_corrupt: OnCorrupt = "restart") -> None:
        """Lock, read, and rewrite what was read. Raises PositionFileLocked, PositionFileCorrupt, PositionFileError."""
        self.path = folder / f"{check_device_id(device_id)}.position"
        self._device_id = device_id
        self.position: Position | None = None
        self.begun = Begun()
        self.seen = Seen()
        self.lost = False
        self.set_aside: Path | None = None
        self._fd = -1
        self._size = 0
        self._written = 0
        self._synced = 0
        self._broken = False
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = _lock(self.path.with_suffix(".position.lock"))
        except OSError as error:
            raise PositionFileError(f"position file cannot be kept in {folder}: {error.strerror}") from error
        try:
            self._read(on_corrupt)
            self._rewrite()
        except OSError as error:
            os.close(self._lock_fd)
            raise PositionFileError(f"{self.path}: {error.strerror}") from error
        except PositionFileError:
            os.close(self._lock_fd)
            raise

    # -- writing

    def started(self, position: Position, fingerprint: str) -> None:
        """The body of this event begins."""
        self.begun.add(InProgress(position, fingerprint))
        self._append(f"S {position} {fingerprint}")

    def finished(self, position: Position, fingerprint: str) -> None:
        """The body of this event has ended, or the event is not given."""
        self.position = position
        self.begun.end(fingerprint)
        self.lost = False
        self.seen.add(SeenEvent(position.epoch, fingerprint))
        self._append(f"F {position} {fingerprint}")

    def reset(self, position: Position) -> None:
        """Go on from here; the application knows that something is gone."""
        self.position = position
        self.lost = False
        self._append(f"P {position}")

    @property
    def dirty(self) -> bool:
        """Whether something written is not durable yet."""
        return self._synced < self._written

    def sync(self) -> None:
        """Make durable what was written before this call. Blocks; may run in a thread, one at a time."""
        upto = self._written
        if self._synced >= upto:
            return
        # A copy of the descriptor, since a rewrite in the other thread closes the original.
        try:
            fd = os.dup(self._fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            self._broken = True
            raise PositionFileError(f"{self.path}: {error.strerror}") from error
        self._synced = max(self._synced, upto)

    def close(self) -> None:
        """Sync and unlock. Idempotent."""
        if self._lock_fd < 0:
            return
        try:
            if not self._broken:
                self.sync()
        finally:
            os.close(self._fd)
            os.close(self._lock_fd)
            self._fd = self._lock_fd = -1

    def __repr__(self) -> str:
        state = f"position={self.position}, begun={len(self.begun)}, seen={len(self.seen)}"
        return f"PositionFile({self.path}, {state})"

    # -- inside

    def _append(self, payload: str) -> None:
        if self._broken or self._fd < 0:
            raise PositionFileError(f"{self.path}: an earlier write failed, or the file is closed")
        line = _line(payload)
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(
                    28, "no space left"
                )  # a short write means a full disk; the torn line is dropped at the next start
            self._written += 1
            self._size += len(line)
            if self._size >= _REWRITE_AT:
                self._rewrite()
        except OSError as error:
            self._broken = True
            raise PositionFileError(f"{self.path}: {error.strerror}") from error

    def _rewrite(self) -> None:
        content = b"".join(_line(payload) for payload in self._payloads())
        temporary = self.path.with_suffix(".position.new")
        with suppress(FileNotFoundError):
            temporary.unlink()
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            written = 0
            while written < len(content):
                written += os.write(fd, content[written:])
            os.fsync(fd)
            temporary.replace(self.path)
            _sync_folder(self.path.parent)
        except OSError:
            os.close(fd)
            raise
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, len(content)
        self._synced = self._written

    def _payloads(self) -> Iterator[str]:
        yield f"{_FORMAT} {self._device_id}"
        if self.lost:
            yield "L"
        for event in self.seen:
            yield f"I {event.epoch} {event.fingerprint}"
        if self.position is not None:
            yield f"P {self.position}"
        for begun in self.begun:
            yield f"S {begun.position} {begun.fingerprint}"

    def _read(self, on_corrupt: OnCorrupt) -> None:
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        with os.fdopen(fd, "rb") as file:
            content = file.read(_READ_MAX + 1)
        try:
            self._replay(content)
        except (_DamagedError, InvalidPosition) as error:
            if on_corrupt == "raise":
                raise PositionFileCorrupt(
                    f"{self.path}: {error}. Move it away to go on from what the server holds as acked."
                ) from None
            self.set_aside = self.path.with_suffix(".position.corrupt")
            self.path.replace(self.set_aside)
            self.position, self.begun, self.seen, self.lost = None, Begun(), Seen(), True

    def _replay(self, content: bytes) -> None:
        if len(content) > _READ_MAX:
            raise _DamagedError("the file is larger than this client writes")
        # Without a final newline the last line is torn; what follows the last newline is dropped in either case.
        payloads = [_payload(line) for line in content.split(b"\n")[:-1]]
        good = len(payloads)
        while good and payloads[good - 1] is None:
            good -= 1
        if not good:
            raise _DamagedError("the file holds no line that was written completely")
        first, *rest = payloads[:good]
        if first is None or first.split(" ")[0] != _FORMAT:
            raise _DamagedError("the file does not begin as a position file of this version")
        if first != f"{_FORMAT} {self._device_id}":
            raise _DamagedError(f"the file is of another device ({first.split(' ', 1)[1]!r})")
        for number, payload in enumerate(rest, start=2):
            if payload is None:
                raise _DamagedError(f"line {number} is damaged")
            self._apply(payload, number)

    def _apply(self, payload: str, number: int) -> None:
        match payload.split(" "):
            case ["P", position]:
                self.position, self.lost = parse_position(position), False
            case ["S", position, fingerprint]:
                self.begun.add(InProgress(parse_position(position), fingerprint))
            case ["F", position, fingerprint]:
                moved = parse_position(position)
                if self.position is not None and moved <= self.position and moved.epoch == self.position.epoch:
                    raise _DamagedError(f"line {number} goes back to {moved}")
                self.position, self.lost = moved, False
                self.begun.end(fingerprint)
                self.seen.add(SeenEvent(moved.epoch, fingerprint))
            case ["I", epoch, fingerprint]:
                self.seen.add(SeenEvent(parse_position(f"{epoch}:0").epoch, fingerprint))
            case ["L"]:
                self.lost = True
            case _:
                raise _DamagedError(f"line {number} is not one this client writes")


def _line(payload: str) -> bytes:
    return b"%08x %s\n" % (crc32(payload.encode()), payload.encode())


def _payload(line: bytes) -> str | None:
    checksum, space, payload = line.partition(b" ")
    if not space or checksum != b"%08x" % crc32(payload):
        return None
    return payload.decode("ascii", "replace")


def _lock(path: Path) -> int:
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        if isinstance(error, BlockingIOError):
            who = f"process {holder}" if holder.isdigit() else "another process"
            raise PositionFileLocked(f"{path}: {who} runs a client of this device; stop it first") from None
        raise
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
