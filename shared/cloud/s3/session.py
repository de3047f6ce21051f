"""What an upload in parts needs to remember, and what its parts amount to [pure]."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from shared.cloud.crc64nvme import combined, read
from shared.cloud.errors import ContentMismatch, NotFound
from shared.cloud.provider import Part, Upload

__all__ = ["Receipt", "Session", "checksum_of", "receipts_of"]


@dataclass(frozen=True, slots=True)
class Session:
    """`step`: the size of every part but the last. `crc`: of the whole, if it was announced."""

    upload_id: str
    step: int
    crc: str | None = None

    def written(self) -> str:
        """As it stands in `Upload.state`."""
        return json.dumps([self.upload_id, self.step, self.crc])

    @classmethod
    def of(cls, upload: Upload) -> "Session":
        """Raises NotFound for what is none: then the upload is to be begun anew."""
        try:
            upload_id, step, crc = json.loads(upload.state)
        except (ValueError, TypeError):
            upload_id, step, crc = None, None, None
        if not (isinstance(upload_id, str) and isinstance(step, int) and step > 0 and isinstance(crc, str | None)):
            raise NotFound(f"{upload.path!r}: what was kept of its upload cannot be read")
        return cls(upload_id, step, crc)


@dataclass(frozen=True, slots=True)
class Receipt:
    """A part as S3 confirmed it. `crc` is None when S3 did not say it."""

    number: int
    etag: str
    crc: str | None
    size: int

    def written(self) -> str:
        """As it stands in `Part.receipt`."""
        return f"{self.number} {self.crc or '-'} {self.etag}"


def receipts_of(upload: Upload, parts: Sequence[Part]) -> list[Receipt]:
    """In order. Raises ContentMismatch when they do not make up the whole."""
    receipts: list[Receipt] = []
    end = 0
    for part in sorted(parts, key=lambda part: part.start):
        fields = (part.receipt or "").split(" ", 2)
        if part.start != end or len(fields) != 3 or not fields[0].isdigit():
            raise ContentMismatch(f"{upload.path!r}: no part begins at {end}")
        end = part.end
        number, crc, etag = int(fields[0]), fields[1], fields[2]
        if number != len(receipts) + 1:
            raise ContentMismatch(f"{upload.path!r}: part {len(receipts) + 1} has the number {number}")
        receipts.append(Receipt(number, etag, None if crc == "-" else crc, part.end - part.start))
    if end != upload.size or not receipts:
        raise ContentMismatch(f"{upload.path!r}: the parts have {end} bytes of {upload.size}")
    return receipts


def checksum_of(receipts: Sequence[Receipt]) -> int | None:
    """The CRC-64/NVME of all of them together; None when that of one is not known."""
    whole = 0
    for receipt in receipts:
        value = read(receipt.crc) if receipt.crc is not None else None
        if value is None:
            return None
        whole = combined(whole, value, receipt.size)
    return whole
