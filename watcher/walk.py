"""Walking a cloud folder, in order of path and page by page, without following a link and without holding it in
memory.

Order is what makes the sweep cheap: a page covers a range of paths, and what the ledger has in that range and the
page has not is gone. Each folder is watched before it is listed. Folders that hold the response of a job are reported
and not entered: they may be many, and nothing in them is ever announced.

All of this blocks, and runs in a thread, one step at a time.
"""

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from shared.cloud.beneath import Root
from shared.hash_slots import partition_of
from watcher.pacing import FileStat
from watcher.places import AREAS, Place, Refused, ignored, locate

PAGE: Final = 500
ASK: Final = 1000
_GONE: Final = (errno.ENOENT, errno.ENOTDIR)

Watch = Callable[[int, str], None]


@dataclass(slots=True)
class WalkPage:
    """What lies between the page before and `upto` (None: to the end of the walk)."""

    files: list[tuple[str, FileStat]] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    """Folders of jobs."""
    refused: list[Refused] = field(default_factory=list)
    upto: str | None = None

    def __len__(self) -> int:
        return len(self.files) + len(self.folders) + len(self.refused)


@dataclass(frozen=True, slots=True)
class Ask:
    """The walk needs to know which of these folders hold the response of a job."""

    folders: Sequence[str]


Walk = Generator[WalkPage | Ask, frozenset[str] | None, None]


@dataclass(frozen=True, slots=True)
class DeviceFolders:
    """The folders of devices in both areas, by partition and in order, and what lies beside them that should not."""

    by_partition: dict[int, list[str]]
    refused: list[Refused]


def file_stat(found: os.stat_result) -> FileStat:
    """As the ledger can hold it: signed 64-bit numbers."""
    inode = found.st_ino if found.st_ino < 2**63 else found.st_ino - 2**64
    return FileStat(inode, found.st_size, max(-(2**63), min(found.st_mtime_ns, 2**63 - 1)))


def device_folders(root: Root, watch: Watch) -> DeviceFolders:
    """List the two areas. Raises OSError when one is missing or cannot be read: then nothing may be taken for gone."""
    by_partition: dict[int, list[str]] = {}
    refused: list[Refused] = []
    for area in AREAS:
        fd = root.open_folder((area,))
        try:
            watch(fd, area)
            with os.scandir(fd) as listing:
                for entry in listing:
                    _sort_in(f"{area}/{entry.name}", entry, by_partition, refused)
        finally:
            os.close(fd)
    for paths in by_partition.values():
        paths.sort(key=lambda path: path + "/")
    return DeviceFolders(by_partition, refused)


def _sort_in(path: str, entry: "os.DirEntry[str]", by_partition: dict[int, list[str]], refused: list[Refused]) -> None:
    place = locate(path)
    if isinstance(place, Place) and entry.is_dir(follow_symlinks=False):
        by_partition.setdefault(partition_of(place.device_id), []).append(path)
    elif isinstance(place, Place) and entry.is_symlink():
        refused.append(Refused(path, "link", "links are not followed"))
    elif isinstance(place, Place):
        refused.append(Refused(path, "misplaced", "files belong into a device's folder"))
    elif place is not None:
        refused.append(place)


def walk(root: Root, folders: Iterable[str], watch: Watch, *, page: int = PAGE) -> Walk:
    """All files in the given folders, which come in order. Send the answer to an Ask, else None."""
    filled = WalkPage()
    last = ""
    for folder in folders:
        inner = _in_order(root, folder, watch)
        answer: frozenset[str] | None = None
        while True:
            try:
                step = inner.send(answer)
            except StopIteration:
                break
            answer = None
            if isinstance(step, Ask):
                answer = yield step
            elif isinstance(step, Refused):
                if len(filled.refused) < page:
                    filled.refused.append(step)
            else:
                if len(filled) >= page:
                    # Only now is it known that something follows.
                    filled.upto = last
                    yield filled
                    filled = WalkPage()
                last = step if isinstance(step, str) else step[0]
                if isinstance(step, str):
                    filled.folders.append(step)
                else:
                    filled.files.append(step)
    yield filled


_Step = tuple[str, FileStat] | str | Refused | Ask


def _in_order(root: Root, folder: str, watch: Watch) -> Generator[_Step, frozenset[str] | None, None]:
    parts = tuple(folder.split("/"))
    try:
        fd = root.open_folder(parts)
    except OSError as error:
        if error.errno not in _GONE:
            yield _cannot_open(folder, error)
        return
    try:
        watch(fd, folder)
        with os.scandir(fd) as listing:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in listing if not ignored(entry.name)]
        names.sort(key=lambda entry: _key(*entry))
        reserved: frozenset[str] = frozenset()
        if len(parts) == 2 and parts[0] == "Responses":
            reserved = yield from _ask(folder, names)
        for name, is_folder in names:
            path = f"{folder}/{name}"
            place = locate(path)
            if isinstance(place, Refused):
                yield place
            elif place is not None and is_folder:
                if path in reserved:
                    yield path
                else:
                    yield from _in_order(root, path, watch)
            elif place is not None:
                yield from _file(fd, name, path)
    except OSError as error:
        if error.errno not in _GONE:
            yield _cannot_open(folder, error)
    finally:
        os.close(fd)


def _key(name: str, is_folder: bool) -> str:
    # What is in a folder sorts as `folder/…`, which is not where `folder` itself sorts.
    return name + "/" if is_folder else name


def _ask(folder: str, names: Sequence[tuple[str, bool]]) -> Generator[_Step, frozenset[str] | None, frozenset[str]]:
    reserved: set[str] = set()
    paths = [f"{folder}/{name}" for name, is_folder in names if is_folder]
    paths = [path for path in paths if isinstance(locate(path), Place)]
    for start in range(0, len(paths), ASK):
        reserved |= (yield Ask(paths[start : start + ASK])) or frozenset()
    return frozenset(reserved)


def _file(folder_fd: int, name: str, path: str) -> Generator[_Step, frozenset[str] | None, None]:
    try:
        found = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _GONE:
            yield Refused(path, "unreadable", str(error.strerror))
        return
    yield refused_kind(path, found.st_mode) or (path, file_stat(found))


def refused_kind(path: str, mode: int) -> Refused | None:
    """Why something that is no regular file is not taken."""
    if stat.S_ISREG(mode):
        return None
    if stat.S_ISLNK(mode):
        return Refused(path, "link", "links are not followed")
    return Refused(path, "special", "not a regular file")


def _cannot_open(path: str, error: OSError) -> Refused:
    if error.errno == errno.ELOOP:
        return Refused(path, "link", "links are not followed")
    return Refused(path, "unreadable", error.strerror or str(error))
