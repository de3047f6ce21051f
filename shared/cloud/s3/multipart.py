"""Uploads in parts, several on their way at a time.

Parts are numbered by where they start, in steps of 10 MiB (more, for the largest), so what S3 lists after a crash says
where each belongs; S3 wants the numbers without a gap, so every part but the last has that size. Every part goes with
its CRC-64/NVME, which S3 checks; the whole is named at the end with the CRC that theirs combine to, and with
`If-None-Match: *`. S3 may say an error with status 200 there.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from shared.cloud.crc64nvme import crc64_nvme, written
from shared.cloud.errors import ContentMismatch, Misconfigured, NameTaken, NotFound
from shared.cloud.http import Answer
from shared.cloud.provider import Offer, Part, Upload
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.errors import Conflict
from shared.cloud.s3.keys import Keys
from shared.cloud.s3.session import Receipt, Session, checksum_of, receipts_of
from shared.cloud.s3.wire import BadXml, complete_body, etag_of, fault_of, parts_page, upload_id_of

__all__ = ["COMPLETE_DEADLINE_S", "Multipart"]

COMPLETE_DEADLINE_S: Final = 300.0
"""S3 may take minutes to put thousands of parts together, or to copy gigabytes."""
_PARTS_MAX: Final = 10_000
_PAGES_MAX: Final = 64
_LARGE: Final = 64 * 1024


class Multipart:
    """Of one bucket. `step` is the size of parts, or, of the largest uploads, what it is a multiple of."""

    def __init__(self, client: S3Client, keys: Keys, *, step: int) -> None:
        self._client = client
        self._keys = keys
        self._step = step

    async def begin(self, path: str, offer: Offer) -> Upload:
        """Begin one."""
        step = self._step * max(1, -(-offer.size // (_PARTS_MAX * self._step)))
        headers = {
            "Content-Type": offer.content_type,
            "x-amz-checksum-algorithm": "CRC64NVME",
            "x-amz-checksum-type": "FULL_OBJECT",
        }
        answer = await self._client.ask("begin", "POST", self._keys.of(path), query={"uploads": ""}, headers=headers)
        if answer.status != 200:
            raise self._client.error(answer, "begin", path)
        try:
            upload_id = upload_id_of(answer.body)
        except BadXml as error:
            raise self._client.strange("begin", error) from None
        return Upload(path, offer.size, Session(upload_id, step, offer.hashes.get("crc64nvme")).written())

    async def parts(self, upload: Upload) -> list[Part]:
        """What S3 has. Raises NotFound when it forgot the upload."""
        session = Session.of(upload)
        found: list[Part] = []
        marker = 0
        for _ in range(_PAGES_MAX):
            query = {"uploadId": session.upload_id, "max-parts": "1000", "part-number-marker": str(marker)}
            answer = await self._client.ask("parts", "GET", self._keys.of(upload.path), query=query)
            if answer.status != 200:
                raise self._client.error(answer, "parts", upload.path)
            try:
                page = parts_page(answer.body)
            except BadXml as error:
                raise self._client.strange("parts", error) from None
            for one in page.parts:
                start = (one.number - 1) * session.step
                receipt = Receipt(one.number, one.etag, one.crc, one.size)
                found.append(Part(start, start + one.size, receipt.written()))
            if page.next_marker is None:
                return found
            if page.next_marker <= marker:
                break
            marker = page.next_marker
        raise self._client.strange("parts", "a listing that does not end")

    async def put_part(self, upload: Upload, start: int, content: bytes) -> Part:
        """Bring one. Raises ContentMismatch when other bytes arrived, NotFound when S3 forgot the upload."""
        session = Session.of(upload)
        before, off = divmod(start, session.step)
        if off or len(content) > session.step or before >= _PARTS_MAX:
            raise Misconfigured(
                f"{len(content)} bytes from {start} are no part: {_PARTS_MAX} of {session.step} bytes, the last less"
            )
        crc = written(crc64_nvme(content) if len(content) < _LARGE else await asyncio.to_thread(crc64_nvme, content))
        answer = await self._client.ask(
            "part",
            "PUT",
            self._keys.of(upload.path),
            query={"partNumber": str(before + 1), "uploadId": session.upload_id},
            headers={"x-amz-checksum-crc64nvme": crc, "x-amz-sdk-checksum-algorithm": "CRC64NVME"},
            body=content,
        )
        if answer.status != 200:
            raise self._client.error(answer, "part", upload.path)
        etag = etag_of(answer.headers.get("etag", ""))
        if not etag:
            raise self._client.strange("part", "no ETag")
        return Part(start, start + len(content), Receipt(before + 1, etag, crc, len(content)).written())

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> None:
        """Give it its name. Raises NameTaken; NotFound when it is to be begun anew; ContentMismatch."""
        session = Session.of(upload)
        receipts = receipts_of(upload, parts)
        whole = checksum_of(receipts)
        headers = {}
        if whole is not None:
            if session.crc not in (None, written(whole)):
                raise ContentMismatch(f"{upload.path!r}: the parts are not what was announced")
            headers = {
                "x-amz-checksum-crc64nvme": written(whole),
                "x-amz-checksum-type": "FULL_OBJECT",
                "x-amz-mp-object-size": str(upload.size),
            }
        await self.complete(upload, complete_body((one.number, one.etag, one.crc) for one in receipts), headers)

    async def complete(self, upload: Upload, body: bytes, headers: dict[str, str]) -> None:
        """CompleteMultipartUpload."""
        answer = await self._client.ask(
            "finish",
            "POST",
            self._keys.of(upload.path),
            query={"uploadId": Session.of(upload).upload_id},
            headers={"If-None-Match": "*", "Content-Type": "application/xml", **headers},
            body=body,
            deadline_s=COMPLETE_DEADLINE_S,
        )
        self._judge(answer, upload.path)

    async def abort(self, upload: Upload) -> None:
        """Give it up, if it is there at all."""
        query = {"uploadId": Session.of(upload).upload_id}
        answer = await self._client.ask("abort", "DELETE", self._keys.of(upload.path), query=query)
        if answer.status not in (200, 204, 404):
            raise self._client.error(answer, "abort", upload.path)

    def _judge(self, answer: Answer, path: str) -> None:
        fault = fault_of(answer.body)
        if answer.status == 200 and fault is None:
            return
        if answer.status == 412 or (fault is not None and fault.code == "PreconditionFailed"):
            raise NameTaken(f"{path!r}: something has the name already")
        error = self._client.error(answer, "finish", path)
        if isinstance(error, Conflict):
            # S3 wants the upload begun anew then.
            raise NotFound(f"{path!r}: its upload met another one and is to be begun anew")
        raise error
