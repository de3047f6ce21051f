"""Copies within a bucket, made by S3 itself, where nothing is yet, of a source that stays what it was.

One request up to 5 GiB; by ranges above, and where a store has no conditional copy. What `If-None-Match` refuses and
what the condition on the source refuses have one status (412), so the source is looked at to tell them apart.
"""

import asyncio
from typing import Final

from shared.cloud.errors import ContentChanged, NameTaken, NotFound
from shared.cloud.provider import Offer, Upload
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.multipart import COMPLETE_DEADLINE_S, Multipart
from shared.cloud.s3.session import Session
from shared.cloud.s3.wire import BadXml, Head, complete_body, copied_part, fault_of, head_of
from shared.cloud.sigv4 import encoded_path

__all__ = ["Copies"]

_ONE_REQUEST_MAX: Final = 5 * 1024**3
_RANGE: Final = 1024**3
_AT_ONCE: Final = 3


class Copies:
    """Of one bucket. The two sizes are for tests."""

    def __init__(
        self,
        client: S3Client,
        keys: Keys,
        multipart: Multipart,
        *,
        one_request_max: int = _ONE_REQUEST_MAX,
        range_size: int = _RANGE,
    ) -> None:
        self._client = client
        self._keys = keys
        self._multipart = multipart
        self._one_request_max = one_request_max
        self._range_size = range_size

    async def copy(self, path: str, to: str, head: Head) -> None:
        """Copy what `head` says is at `path`. Raises NameTaken, ContentChanged, NotFound; then nothing is at `to`."""
        source = {
            "x-amz-copy-source": f"/{self._client.bucket.name}/{encoded_path(self._keys.of(path))}",
            "x-amz-copy-source-if-match": f'"{head.etag}"',
        }
        if head.size > self._one_request_max:
            await self._by_ranges(path, to, head, source)
            return
        answer = await self._client.ask(
            "copy",
            "PUT",
            self._keys.of(to),
            headers={**source, "If-None-Match": "*"},
            deadline_s=COMPLETE_DEADLINE_S,
        )
        fault = fault_of(answer.body)
        if answer.status == 501 and head.size:
            # It has conditions on uploads in parts, if not on copies.
            await self._by_ranges(path, to, head, source)
            return
        if answer.status == 412 or (fault is not None and fault.code == "PreconditionFailed"):
            await self._need_unchanged(path, head)
            raise NameTaken(f"{to!r}: something has the name already")
        if answer.status != 200 or fault is not None:
            raise self._client.error(answer, "copy", path)

    async def _by_ranges(self, path: str, to: str, head: Head, source: dict[str, str]) -> None:
        offer = Offer(head.size, {}, head.content_type or "application/octet-stream")
        upload = await self._multipart.begin(to, offer)
        free = asyncio.Semaphore(_AT_ONCE)

        async def bring(number: int, start: int) -> tuple[str, str | None]:
            end = min(start + self._range_size, head.size)
            async with free:
                headers = {**source, "x-amz-copy-source-range": f"bytes={start}-{end - 1}"}
                return await self._range(upload, path, number, headers)

        starts = range(0, head.size, self._range_size)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(bring(number, start)) for number, start in enumerate(starts, 1)]
            body = complete_body((number, *task.result()) for number, task in enumerate(tasks, 1))
            await self._multipart.complete(upload, body, {"x-amz-mp-object-size": str(head.size)})
        except BaseExceptionGroup as errors:
            await self._multipart.abort(upload)
            raise errors.exceptions[0] from None
        except (NameTaken, NotFound):
            await self._multipart.abort(upload)
            raise

    async def _range(self, upload: Upload, path: str, number: int, headers: dict[str, str]) -> tuple[str, str | None]:
        answer = await self._client.ask(
            "copy_part",
            "PUT",
            self._keys.of(upload.path),
            query={"partNumber": str(number), "uploadId": Session.of(upload).upload_id},
            headers=headers,
            deadline_s=COMPLETE_DEADLINE_S,
        )
        fault = fault_of(answer.body)
        if answer.status == 412 or (fault is not None and fault.code == "PreconditionFailed"):
            raise ContentChanged(f"{path!r}: was written to while it was copied")
        if answer.status != 200 or fault is not None:
            raise self._client.error(answer, "copy_part", path)
        try:
            return copied_part(answer.body)
        except BadXml as error:
            raise self._client.strange("copy_part", error) from None

    async def _need_unchanged(self, path: str, head: Head) -> None:
        answer = await self._client.ask("look", "HEAD", self._keys.of(path))
        if answer.status == 404:
            raise NotFound(f"{path!r}: nothing is there")
        if answer.status == 200 and head_of(answer.headers).etag != head.etag:
            raise ContentChanged(f"{path!r}: was written to while it was copied")
