"""Uploads to a bucket of S3, or of a store that speaks like it, by addresses that we sign (sigv4.py).

The signed headers bind the content: its length, its sha256, and `If-None-Match: *`, by which the store refuses (412) to
put anything over what is there. Confirming is a HEAD in checksum mode: the store says which sha256 it computed itself.
The key must be allowed to list the bucket, else S3 says 403 instead of 404 for what is not there.
"""

import base64
import binascii
from datetime import UTC, datetime
from typing import Final

from shared.clock import wall
from shared.cloud.s3.bucket import Bucket
from shared.cloud.sigv4 import Credentials, encoded_path, presigned, signed_headers
from shared.cloud.store_client import Answer, StoreClient
from shared.cloud.uploads import Asset, Held, UploadPermit
from shared.disposition import attachment

__all__ = ["Bucket", "S3Uploads"]

_ONE_PUT_MAX: Final = 5 * 1024**3


class S3Uploads:
    """One bucket."""

    name: Final = "s3"

    def __init__(
        self, bucket: Bucket, credentials: Credentials, client: StoreClient, *, lifetime_s: float, size_max: int
    ) -> None:
        self._bucket = bucket
        self._credentials = credentials
        self._client = client
        self._lifetime_s = int(lifetime_s)
        self.size_max = min(size_max, _ONE_PUT_MAX)

    def __repr__(self) -> str:
        return f"S3Uploads({self._bucket.url})"

    def refusal(self, asset: Asset) -> tuple[str, str] | None:
        """It takes everything."""
        return None

    def permit(self, asset: Asset, *, now: float) -> UploadPermit:
        """A PUT of exactly this content, where nothing is yet."""
        headers = {
            "Content-Length": str(asset.size),
            "Content-Type": asset.content_type,
            "If-None-Match": "*",
            "x-amz-checksum-sha256": base64.b64encode(bytes.fromhex(asset.sha256)).decode(),
            "x-amz-sdk-checksum-algorithm": "SHA256",
        }
        url = presigned(
            self._credentials,
            method="PUT",
            url=self._url(asset),
            region=self._bucket.region,
            at=datetime.fromtimestamp(int(now), UTC),
            lifetime_s=self._lifetime_s,
            headers=headers,
        )
        return UploadPermit("PUT", url, int(now) + self._lifetime_s, headers=headers)

    def download(self, asset: Asset, *, now: float) -> str:
        """A GET of it, as an attachment."""
        return presigned(
            self._credentials,
            method="GET",
            url=self._url(asset),
            region=self._bucket.region,
            at=datetime.fromtimestamp(int(now), UTC),
            lifetime_s=self._lifetime_s,
            query={
                "response-content-disposition": attachment(asset.name),
                "response-content-type": asset.content_type,
                "response-cache-control": "private, no-store",
            },
        )

    async def held(self, asset: Asset) -> Held | None:
        """The size and the sha256 by which the store took it."""
        answer = await self._ask("HEAD", asset, {"x-amz-checksum-mode": "ENABLED"})
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise answer.failure("S3")
        return Held(int(answer.headers.get("content-length", "-1")), sha256=_sha256(answer))

    async def remove(self, asset: Asset) -> None:
        """Gone is gone, also when it was before."""
        answer = await self._ask("DELETE", asset, {})
        if answer.status not in (200, 204, 404):
            raise answer.failure("S3")

    async def _ask(self, method: str, asset: Asset, headers: dict[str, str]) -> Answer:
        url = self._url(asset)
        signed = signed_headers(
            self._credentials,
            method=method,
            url=url,
            region=self._bucket.region,
            at=datetime.fromtimestamp(int(wall()), UTC),
            headers=headers,
        )
        return await self._client.ask("S3", method, url, headers=signed)

    def _url(self, asset: Asset) -> str:
        return self._bucket.url + encoded_path(asset.object_key)


def _sha256(answer: Answer) -> str | None:
    """Of the whole object; a checksum of checksums (`…-3`) is none."""
    try:
        raw = base64.b64decode(answer.headers.get("x-amz-checksum-sha256", ""), validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw.hex() if len(raw) == 32 else None
