"""A private copy of the request file, and the proof that it is the file that was announced.

Handlers get a path, so the object is streamed into a private file first, in constant memory and up to a limit. On the
way it is hashed: if it is no longer the content that made the job, somebody changed or removed it meanwhile, and that
is the answer. The changed file is a request of its own; the watcher sees it as one.
"""

from pathlib import Path
from typing import BinaryIO

from shared.cloud.errors import BadPath, ContentChanged, NotAFile, NotFound, StoreUnavailable
from shared.cloud.hashes import StreamHash
from shared.cloud.store import Store
from shared.cloud.threads import FileThreads
from shared.store.jobs import Claimed
from worker.errors import AttemptFailed, PermanentFailure
from worker.handlers.contract import Answer

__all__ = ["stage"]


async def stage(store: Store, job: Claimed, target: Path, threads: FileThreads, *, max_bytes: int) -> Answer | None:
    """Copy the request to `target`. None when it is there; an answer when there is nothing to handle.

    Raises AttemptFailed, PermanentFailure.
    """
    if job.size > max_bytes:
        return Answer("too_large", f"the file has {job.size} bytes; at most {max_bytes} are processed")
    content = StreamHash()
    try:
        async with store.open(job.path) as reader:
            if reader.stat.size != job.size:
                return _changed()
            file = await threads.run(str(target), _create, target, release=_close)
            try:
                async for piece in reader.chunks():
                    content.update(piece)
                    await threads.run(str(target), file.write, piece)
            finally:
                await threads.run_always(str(target), file.close)
    except NotFound:
        return Answer("removed", "the file was removed before it was processed")
    except (ContentChanged, NotAFile):
        return _changed()
    except BadPath as error:
        raise PermanentFailure(f"the request file has a path that cannot be opened: {error}") from error
    except StoreUnavailable as error:
        raise AttemptFailed(f"the request file cannot be read now: {error}") from error
    if content.digest().sha256 != job.content_version:
        return _changed()
    return None


def _changed() -> Answer:
    return Answer("changed", "the file was changed before it was processed; what it holds now is a request of its own")


def _create(path: Path) -> BinaryIO:
    return path.open("xb")


def _close(file: BinaryIO) -> None:
    file.close()
