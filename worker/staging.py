"""A private copy of the request, and the proof that it is the one that was announced.

Handlers get a path, so the object is streamed into a private file first, in constant memory and up to a limit. On the
way it is hashed: if it is no longer the content that made the job, somebody changed or removed it meanwhile, and that
is the answer. The changed file is a request of its own; the watcher sees it as one. A request that came by REST is in
the job's row and was never a file; handlers see no difference.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from shared.cloud.errors import (
    BadPath,
    CloudError,
    ContentChanged,
    Misconfigured,
    NotAFile,
    NotFound,
    StoreUnavailable,
)
from shared.cloud.hashes import StreamHash
from shared.cloud.provider import Object, Provider, stat_of_object
from shared.cloud.store import Stat
from shared.cloud.threads import FileThreads
from shared.store.jobs import Claimed
from worker.errors import AttemptFailed, Outage, PermanentFailure
from worker.handlers.contract import Answer

__all__ = ["stage"]


async def stage(
    store: Provider | None, job: Claimed, target: Path, threads: FileThreads, *, max_bytes: int
) -> Answer | None:
    """Copy the request to `target`. None when it is there; an answer when there is nothing to handle.

    A request that is in the job's row needs no store.

    Raises AttemptFailed, PermanentFailure.
    """
    if job.size > max_bytes:
        return Answer("too_large", f"the file has {job.size} bytes; at most {max_bytes} are processed")
    if job.inline_body is not None:
        with _own_disk():
            await threads.run("the copy", _write_new, target, job.inline_body.encode())
        return None
    if store is None:
        raise AssertionError("a request that is a file lies in a store")
    content = StreamHash()
    copy = _Copy(target, threads)
    try:
        async with store.open(job.path, object_id=job.object_id) as reader:
            if reader.stat.size != job.size or not await _is_that_version(store, job, reader.stat):
                return _changed()
            async with copy:
                async for piece in reader.chunks():
                    content.update(piece)
                    await copy.write(piece)
    except NotFound:
        return Answer("removed", "the file was removed before it was processed")
    except (ContentChanged, NotAFile):
        return _changed()
    except BadPath as error:
        raise PermanentFailure(f"the request file has a path that cannot be opened: {error}") from error
    except (StoreUnavailable, Misconfigured) as error:
        # Credentials that ran out are no fault of the job: it is done when they are renewed.
        raise Outage(f"the request file cannot be read now: {error}") from error
    if _kind_of(job.content_version) == "sha256" and content.digest().sha256 != job.content_version[-64:]:
        return _changed()
    return None


async def _is_that_version(store: Provider, job: Claimed, opened: Stat) -> bool:
    """Whether what was opened is the version that made the job, where the provider says so without the bytes.

    What a provider says when it lists may be of another kind than what it says when it is asked; those cannot be
    compared, and the request is taken as it is: should it be another, it makes a job of its own, too.
    """
    if _kind_of(job.content_version) == "sha256":
        return True
    if job.object_id is not None:
        expected = stat_of_object(Object(job.object_id, job.path, job.size, job.content_version))
        if expected.inode == opened.inode:
            return True
    found = await store.look(job.path, object_id=job.object_id)
    if found is None:
        raise NotFound
    return found.version == job.content_version or _kind_of(found.version) != _kind_of(job.content_version)


def _kind_of(version: str) -> str:
    """What a content version is made of; without a word for it, it is the sha256."""
    kind, colon, _ = version.partition(":")
    return kind if colon else "sha256"


def _changed() -> Answer:
    return Answer("changed", "the file was changed before it was processed; what it holds now is a request of its own")


class _Copy:
    """Our own file. What goes wrong with it says nothing about the store's, so its errors are of another kind."""

    def __init__(self, path: Path, threads: FileThreads) -> None:
        self._path = path
        self._threads = threads
        self._file: BinaryIO | None = None

    async def __aenter__(self) -> None:
        with _own_disk():
            self._file = await self._threads.run("the copy", self._path.open, "xb", release=_close)

    async def write(self, piece: bytes) -> None:
        with _own_disk():
            await self._threads.run("the copy", self._opened.write, piece)

    async def __aexit__(self, *error: object) -> None:
        with _own_disk():
            await self._threads.run_always("the copy", self._opened.close)

    @property
    def _opened(self) -> BinaryIO:
        if self._file is None:
            raise AssertionError("used outside its context")
        return self._file


@contextmanager
def _own_disk() -> Iterator[None]:
    try:
        yield
    except CloudError as error:
        raise AttemptFailed(f"the request file cannot be copied to work on it: {error}") from error


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)


def _close(file: Any) -> None:
    file.close()
