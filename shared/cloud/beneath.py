"""Opening things beneath a root folder without ever leaving it.

No component of a path may be a link, so nobody who can write into a cloud folder can point us at a file elsewhere,
not even by swapping a folder for a link between a check and its use. Linux has one call for this (openat2, from 5.6);
elsewhere, and where a sandbox forbids that call, the path is walked component by component with O_NOFOLLOW. Both give
the same answers. All calls here block and raise OSError; paths come split and checked (paths.py).
"""

import ctypes
import errno
import os
import stat
import sys
from pathlib import Path
from typing import Final

from shared.cloud.paths import Parts

_NOFOLLOW: Final = os.O_NOFOLLOW | os.O_CLOEXEC
FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | _NOFOLLOW
# Non-blocking, or opening a pipe would wait for its other end; a controlling terminal is never wanted.
FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | _NOFOLLOW

_OPENAT2: Final = 437  # the same on every architecture that Python runs on, but alpha
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_libc: Final = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE: Final = 1
_renameat2: Final = getattr(_libc, "renameat2", None)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


class Root:
    """An open root folder. The path to the root itself may hold links: it is the operator's choice."""

    def __init__(self, path: Path, *, allow_openat2: bool = True) -> None:
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._one_call = allow_openat2 and _openat2_works(self.fd)

    def __repr__(self) -> str:
        return f"Root(fd={self.fd}, {'openat2' if self._one_call else 'walk'})"

    def open_folder(self, parts: Parts) -> int:
        """A descriptor of the folder."""
        if not parts:
            return os.open(".", FOLDER, dir_fd=self.fd)
        return self._open(parts, FOLDER)

    def open_file(self, parts: Parts) -> int:
        """A descriptor of the regular file, for reading. ELOOP for a link on the way, ENXIO for what is no file."""
        fd = self._open(parts, FILE)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise OSError(errno.ENXIO, "not a regular file")
        return fd

    def make_folders(self, parts: Parts) -> int:
        """A descriptor of the folder, made with its parents where missing. What is made is durable in its parent."""
        try:
            return self.open_folder(parts)
        except FileNotFoundError:
            pass
        folder = self.open_folder(())
        try:
            for part in parts:
                try:
                    os.mkdir(part, dir_fd=folder)
                    os.fsync(folder)
                except FileExistsError:
                    pass
                inner = _open_component(part, FOLDER, folder)
                os.close(folder)
                folder = inner
        except BaseException:
            os.close(folder)
            raise
        return folder

    def stat(self, parts: Parts) -> os.stat_result:
        """Of whatever is there; a link is not followed."""
        folder = self.open_folder(parts[:-1])
        try:
            return os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        finally:
            os.close(folder)

    def remove(self, parts: Parts) -> None:
        """Remove what has this name, which must not be a folder; durable on return."""
        folder = self.open_folder(parts[:-1])
        try:
            os.unlink(parts[-1], dir_fd=folder)
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove_empty(self, parts: Parts) -> bool:
        """Remove a folder in which nothing is; durable on return. Whether there is none now."""
        folder = self.open_folder(parts[:-1])
        try:
            os.rmdir(parts[-1], dir_fd=folder)
            os.fsync(folder)
        except FileNotFoundError:
            return True
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                return False
            raise
        finally:
            os.close(folder)
        return True

    def move(self, parts: Parts, to: Parts) -> None:
        """Give the regular file another name, folders on the way made; durable on return.

        FileExistsError when the name is taken. ENXIO for what is no regular file.
        """
        source = self.open_folder(parts[:-1])
        try:
            if not stat.S_ISREG(os.stat(parts[-1], dir_fd=source, follow_symlinks=False).st_mode):
                raise OSError(errno.ENXIO, "not a regular file")
            target = self.make_folders(to[:-1])
            try:
                _rename_new(source, parts[-1], target, to[-1])
                os.fsync(target)
                os.fsync(source)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def close(self) -> None:
        """Give the root up."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _open(self, parts: Parts, flags: int) -> int:
        if self._one_call:
            return _openat2(self.fd, "/".join(parts), flags)
        folder = self.fd
        try:
            for part in parts[:-1]:
                inner = _open_component(part, FOLDER, folder)
                if folder != self.fd:
                    os.close(folder)
                folder = inner
            return _open_component(parts[-1], flags, folder)
        finally:
            if folder != self.fd:
                os.close(folder)


def _open_component(part: str, flags: int, folder: int) -> int:
    try:
        return os.open(part, flags, dir_fd=folder)
    except NotADirectoryError:
        # O_DIRECTORY hides that O_NOFOLLOW met a link; openat2 says ELOOP.
        if stat.S_ISLNK(os.stat(part, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, "a link is in the way") from None
        raise


def _openat2(folder: int, path: str, flags: int) -> int:
    # O_NOFOLLOW would have the kernel say "no folder" of a link to one, where NO_SYMLINKS alone says "a link".
    how = _OpenHow(flags & ~os.O_NOFOLLOW, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    code = errno.EAGAIN
    # EAGAIN: while names moved, the kernel could not tell that the path stays beneath.
    for _ in range(8):
        fd = int(
            _libc.syscall(ctypes.c_long(_OPENAT2), ctypes.c_long(folder), os.fsencode(path), ctypes.byref(how), size)
        )
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(code, os.strerror(code))


def _rename_new(source: int, name: str, target: int, new: str) -> None:
    """Rename without replacing. In one step where the system can; else link first, so that nothing is ever lost."""
    if _renameat2 is not None:
        if _renameat2(source, os.fsencode(name), target, os.fsencode(new), _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        # EINVAL: this file system cannot.
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code))
    try:
        os.link(name, new, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except FileExistsError:
        mine, there = (
            os.stat(name, dir_fd=source, follow_symlinks=False),
            os.stat(new, dir_fd=target, follow_symlinks=False),
        )
        # The same file under both names was left by a move that was cut off here, unless it is the very same name.
        is_same_name = name == new and os.path.sameopenfile(source, target)
        if is_same_name or (mine.st_ino, mine.st_dev) != (there.st_ino, there.st_dev):
            raise
    os.unlink(name, dir_fd=source)


def _openat2_works(folder: int) -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.close(_openat2(folder, ".", FOLDER))
    except OSError:
        return False
    return True
