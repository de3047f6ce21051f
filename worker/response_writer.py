"""Writing a response so that any attempt, after any crash, ends with the same one.

Four rules make it safe to repeat. The folder was reserved before. Nothing is ever overwritten: a file that is there
with the same content is adopted, one with other content (an attempt whose handler answered otherwise) is left alone
and ours gets a name that belongs to this attempt only. response.json comes last; whoever links it has made the
response. Everyone else, the attempt that came second included, reads it and takes it as it is.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from shared.cloud.errors import CloudError, Misconfigured, NotAFile, NotFound, StoreBusy, StoreUnavailable
from shared.cloud.hashes import Digest, digest_of
from shared.cloud.store import Existed, Store
from shared.store.jobs import Claimed
from worker.errors import AttemptFailed, HomeUnavailable, PermanentFailure
from worker.handlers.contract import ResponseFile
from worker.response_document import (
    DOCUMENT_MAX_BYTES,
    DOCUMENT_NAME,
    DocumentFile,
    InvalidDocument,
    ResponseDocument,
    decode,
    encode,
    name_of_attempt,
)

__all__ = ["Committed", "ResponseWriter"]

_log = structlog.get_logger(__name__)

_AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class Committed:
    """A response that stands in the store: its document, and the document's own size and hash."""

    document: ResponseDocument
    digest: Digest


class ResponseWriter:
    """Writes into one store. `still_ours(job)` raises LeaseLost; it is asked before every file.

    `watched()` is around every piece of work at the store. Raises HomeUnavailable where another store might do it.
    """

    def __init__(
        self,
        store: Store,
        still_ours: Callable[[Claimed], None],
        watched: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._store = store
        self._still_ours = still_ours
        self._watched = watched

    async def find(self, job: Claimed) -> Committed | None:
        """The response that an earlier attempt committed, checked against the files it names.

        Raises PermanentFailure when something else stands in its place, AttemptFailed when the store does not answer.
        """
        try:
            return await self._find(job)
        except (InvalidDocument, NotAFile) as error:
            raise PermanentFailure(f"{job.folder}/{DOCUMENT_NAME} is in the way: {error}") from error
        except CloudError as error:
            raise _failed("the response cannot be read now", error) from error

    async def put_files(self, job: Claimed, files: Sequence[ResponseFile], folder: Path) -> list[DocumentFile]:
        """Store the handler's files; returns them under the names they got. Raises AttemptFailed, LeaseLost."""
        at_once = asyncio.Semaphore(_AT_ONCE)

        async def put(file: ResponseFile) -> DocumentFile:
            async with at_once:
                self._still_ours(job)
                return await self._put_file(job, file, folder / file.name)

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(put(file)) for file in files]
        except BaseExceptionGroup as group_error:
            raise group_error.exceptions[0] from None
        return [task.result() for task in tasks]

    async def commit(self, job: Claimed, document: ResponseDocument) -> Committed:
        """Link response.json. Returns the response that stands: this one, or that of the attempt that was first."""
        self._still_ours(job)
        path = f"{job.folder}/{DOCUMENT_NAME}"
        try:
            with self._watched():
                put = await self._store.put_new(path, encode(document))
        except CloudError as error:
            raise _failed(f"{DOCUMENT_NAME} cannot be written now", error) from error
        if not isinstance(put, Existed) or put.identical:
            return Committed(document, put.offered)
        _log.info("response was committed by another attempt", job_id=str(job.job_id), lease_token=job.lease_token)
        if (standing := await self.find(job)) is None:
            raise AttemptFailed(f"{DOCUMENT_NAME} was there and is gone")
        return standing

    async def _put_file(self, job: Claimed, file: ResponseFile, source: Path) -> DocumentFile:
        for name in (file.name, name_of_attempt(file.name, job.lease_token)):
            try:
                with self._watched():
                    put = await self._store.put_new(f"{job.folder}/{name}", source)
            except NotAFile:
                continue  # a folder or link of that name
            except CloudError as error:
                raise _failed(f"{name} cannot be written now", error) from error
            if not isinstance(put, Existed) or put.identical:
                return DocumentFile(name, put.offered.size, put.offered.sha256, file.content_type)
            _log.info("name is taken by other content", job_id=str(job.job_id), name=name, lease_token=job.lease_token)
        raise AttemptFailed(f"{file.name} cannot be written: both its names are taken by other content")

    async def _find(self, job: Claimed) -> Committed | None:
        path = f"{job.folder}/{DOCUMENT_NAME}"
        with self._watched():
            found = await self._store.stat(path)
        if found is None:
            return None
        if found.size > DOCUMENT_MAX_BYTES:
            raise InvalidDocument(f"it has {found.size} bytes")
        async with self._store.open(path) as reader:
            text = b"".join([piece async for piece in reader.chunks(0, min(reader.stat.size, DOCUMENT_MAX_BYTES))])
        document = decode(text, job_id=job.job_id)
        for file in document.files:
            if await self._digest(f"{job.folder}/{file.name}") != Digest(file.size, file.sha256):
                raise InvalidDocument(f"{file.name} is not the file that it names")
        return Committed(document, digest_of(text))

    async def _digest(self, path: str) -> Digest | None:
        try:
            return (await self._store.content(path))[1]
        except (NotFound, NotAFile):
            return None


def _failed(what: str, error: CloudError) -> AttemptFailed:
    is_store = isinstance(error, StoreUnavailable | Misconfigured) and not isinstance(error, StoreBusy)
    return (HomeUnavailable if is_store else AttemptFailed)(f"{what}: {error}")
