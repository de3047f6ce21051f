"""The position file: how far the application has come, and which event it was working on.

A journal of short lines, each with its checksum, rewritten as a whole when it has grown: a new file beside it, fsync,
rename, so there is always one that is complete. A lock beside it (the journal itself is replaced) keeps a second client
of this device on this machine away. Writing a line is enough to outlive the process; `sync()` makes it outlive the
machine, and the client calls it before each ack, so that the server never knows more than this file. The rewrite waits
for the disk as well and happens there too, in the thread that syncs; lines may be added meanwhile.

What is found damaged is never guessed at: a torn end is what a power cut leaves and is dropped, which only means that
some events come again; anything else is set aside, and the server's acked position counts.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal
from zlib import crc32

from device.errors import PositionFileCorrupt, PositionFileError, PositionFileLocked
from device.lock_file import Held, lock, sync_folder
from device.seen import Begun, InProgress, Seen, SeenEvent
from shared.protocol.ids import check_device_id
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["OnCorrupt", "PositionFile"]

OnCorrupt = Literal["restart", "raise"]

_FORMAT: Final = "fleetwire-position-1"
_READ_MAX: Final = 16 * 1024 * 1024
_REWRITE_AT: Final = 1024 * 1024  # by the next sync
_REWRITE_AT_ONCE: Final = 4 * 1024 * 1024  # by whoever adds a line, when no sync has come so far


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
        self._broken = False  # no line can be added any more
        self._doubtful = False  # a sync has failed: what is on the disk is not known
        # One sync or rewrite at a time; only its holder closes the descriptor. Taken before `_guard`, never inside it.
        self._turn = threading.Lock()
        # The descriptor, the counts and what they are of. Never held while waiting for the disk.
        self._guard = threading.Lock()
        self._late: list[bytes] | None = None  # during a rewrite: lines that its content does not hold
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock_fd = lock(self.path.with_suffix(".position.lock"))
        except Held as held:
            raise PositionFileLocked(f"{held}; stop it first") from None
        except OSError as error:
            raise PositionFileError(f"position file cannot be kept in {folder}: {error.strerror}") from error
        try:
            self._read(on_corrupt)
            self._rewrite()
        except OSError as error:
            if self._fd >= 0:
                os.close(self._fd)
            os.close(self._lock_fd)
            raise PositionFileError(f"{self.path}: {error.strerror}") from error
        except PositionFileError:
            os.close(self._lock_fd)
            raise

    # -- writing

    def started(self, position: Position, fingerprint: str) -> None:
        """The body of this event begins."""
        with self._guard:
            self.begun.add(InProgress(position, fingerprint))
            self._append(f"S {position} {fingerprint}")
        self._bound()

    def finished(self, position: Position, fingerprint: str) -> None:
        """The body of this event has ended, or the event is not given."""
        with self._guard:
            self.position = position
            self.begun.end(fingerprint)
            self.lost = False
            self.seen.add(SeenEvent(position.epoch, fingerprint))
            self._append(f"F {position} {fingerprint}")
        self._bound()

    def reset(self, position: Position) -> None:
        """Go on from here; the application knows that something is gone."""
        with self._guard:
            self.position = position
            self.lost = False
            self._append(f"P {position}")
        self._bound()

    @property
    def dirty(self) -> bool:
        """Whether something written is not durable yet."""
        return self._synced < self._written

    def sync(self) -> None:
        """Make durable what was written before this call, and the file short again. Blocks; may run in a thread."""
        with self._turn:
            self._sync()

    def close(self) -> None:
        """Sync and unlock. Idempotent; waits for a sync in another thread."""
        with self._turn:
            if self._lock_fd < 0:
                return
            try:
                if not self._broken and not self._doubtful:
                    self._sync()
            finally:
                with self._guard:
                    os.close(self._fd)
                    os.close(self._lock_fd)
                    self._fd = self._lock_fd = -1

    def __repr__(self) -> str:
        state = f"position={self.position}, begun={len(self.begun)}, seen={len(self.seen)}"
        return f"PositionFile({self.path}, {state})"

    # -- inside

    def _append(self, payload: str) -> None:
        """Under `_guard`."""
        if self._broken or self._doubtful or self._fd < 0:
            raise PositionFileError(f"{self.path}: an earlier write failed, or the file is closed")
        line = _line(payload)
        try:
            if os.write(self._fd, line) != len(line):
                raise OSError(
                    28, "no space left"
                )  # a short write means a full disk; the torn line is dropped at the next start
        except OSError as error:
            self._broken = True
            raise PositionFileError(f"{self.path}: {error.strerror}") from error
        self._written += 1
        self._size += len(line)
        if self._late is not None:
            self._late.append(line)

    def _bound(self) -> None:
        """Where nobody syncs, or the disk is slower than the events, the file is kept from growing by waiting."""
        if self._size >= _REWRITE_AT_ONCE:
            self.sync()

    def _sync(self) -> None:
        """Under `_turn`."""
        with self._guard:
            fd, upto = self._fd, self._written
            if self._synced >= upto:
                return
            if self._doubtful or fd < 0:
                raise PositionFileError(f"{self.path}: an earlier sync failed, or the file is closed")
            grown = self._size >= _REWRITE_AT and not self._broken
        try:
            if grown:
                self._rewrite()
            else:
                os.fsync(fd)
                self._synced = upto
        except OSError as error:
            # What a failed fsync left unwritten, a second one would pass over in silence.
            self._doubtful = True
            raise PositionFileError(f"{self.path}: {error.strerror}") from error

    def _rewrite(self) -> None:
        """Under `_turn`. Lines that are added meanwhile go into the old file, and into the new one before it takes the
        old one's place.
        """
        with self._guard:
            payloads = list(self._payloads())
            late: list[bytes] = []
            self._late = late
        content = b"".join(_line(payload) for payload in payloads)
        temporary = self.path.with_suffix(".position.new")
        try:
            with suppress(FileNotFoundError):
                temporary.unlink()
            fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                _write_all(fd, content)
                os.fsync(fd)
                with self._guard:
                    _write_all(fd, b"".join(late))
                    temporary.replace(self.path)
                    old, self._fd = self._fd, fd
                    upto, self._size = self._written, len(content) + sum(len(line) for line in late)
            except OSError:
                os.close(fd)
                raise
        finally:
            self._late = None
        if old >= 0:
            os.close(old)
        if late:
            os.fsync(fd)
        sync_folder(self.path.parent)
        self._synced = upto

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


def _write_all(fd: int, content: bytes) -> None:
    written = 0
    while written < len(content):
        written += os.write(fd, content[written:])


def _payload(line: bytes) -> str | None:
    checksum, space, payload = line.partition(b" ")
    if not space or checksum != b"%08x" % crc32(payload):
        return None
    return payload.decode("ascii", "replace")
