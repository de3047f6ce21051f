"""Uploads to Cloudinary: a form that we signed, posted by the device; asked and tidied by Cloudinary's upload API.

The form names the asset, says `overwrite=false` and admits one format, all of it signed. Cloudinary knows an asset's
size and, as its etag, the MD5 of what was uploaded, and no better hash: a photo must come with its `md5`. Asking
is `explicit` without anything to do, which answers as the upload did; the answer's own signature is checked. One
request takes 100 MB there.
"""

from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from shared.clock import wall
from shared.cloud.cloudinary_signature import HashName, is_signed_answer, signature
from shared.cloud.errors import StoreUnavailable
from shared.cloud.store_client import StoreClient
from shared.cloud.uploads import Asset, Held, UploadPermit

__all__ = ["Cloudinary", "CloudinaryUploads"]

_ONE_POST_MAX: Final = 100_000_000
_SIGNED_FOR_S: Final = 3600
_TYPE: Final = "private"
_FORMATS: Final = {
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/webp": "webp",
    "image/gif": "gif",
    "image/heic": "heic",
    "image/heif": "heif",
    "image/avif": "avif",
    "image/tiff": "tiff",
}


@dataclass(frozen=True, slots=True)
class Cloudinary:
    """An account."""

    url: str
    cloud: str
    key: str
    secret: str = field(repr=False)
    algorithm: HashName = "sha1"


class _Resource(msgspec.Struct):
    public_id: str
    version: int
    signature: str
    bytes: int
    etag: str | None = None


class CloudinaryUploads:
    """One account."""

    name: Final = "cloudinary"

    def __init__(self, account: Cloudinary, client: StoreClient, *, lifetime_s: float, size_max: int) -> None:
        self._account = account
        self._client = client
        self._lifetime_s = int(lifetime_s)
        self.size_max = min(size_max, _ONE_POST_MAX)

    def __repr__(self) -> str:
        return f"CloudinaryUploads({self._account.cloud})"

    def refusal(self, asset: Asset) -> tuple[str, str] | None:
        """It needs an MD5, and knows some formats."""
        if asset.md5 is None:
            return "md5", "md5 is needed: this store knows no better hash"
        if asset.content_type not in _FORMATS:
            return "content_type", f"content_type must be one of {', '.join(sorted(_FORMATS))} for this store"
        return None

    def permit(self, asset: Asset, *, now: float) -> UploadPermit:
        """A form that names this asset and does not overwrite; good for an hour, as Cloudinary has it."""
        fields = self._signed(
            {
                "public_id": asset.object_key,
                "type": _TYPE,
                "overwrite": "false",
                "allowed_formats": _FORMATS[asset.content_type],
            },
            now,
        )
        return UploadPermit("POST", self._url("upload"), int(now) + _SIGNED_FOR_S, fields=fields)

    def download(self, asset: Asset, *, now: float) -> str:
        """An address at Cloudinary that admits for a while, as an attachment."""
        parameters = {
            "public_id": asset.object_key,
            "format": _FORMATS[asset.content_type],
            "type": _TYPE,
            "attachment": "true",
            "expires_at": str(int(now) + self._lifetime_s),
        }
        return f"{self._url('download')}?{urlencode(self._signed(parameters, now))}"

    async def held(self, asset: Asset) -> Held | None:
        """The size and the MD5 that Cloudinary computed."""
        status, body = await self._ask("explicit", {"public_id": asset.object_key, "type": _TYPE})
        if status == 404:
            return None
        try:
            found = msgspec.json.decode(body, type=_Resource)
        except msgspec.DecodeError:
            raise StoreUnavailable("Cloudinary answered something else than an asset") from None
        account = self._account
        is_signed = is_signed_answer(
            found.public_id, found.version, found.signature, account.secret, algorithm=account.algorithm
        )
        if found.public_id != asset.object_key or not is_signed:
            raise StoreUnavailable("Cloudinary's answer is of another asset, or its signature does not hold")
        return Held(found.bytes, md5=found.etag)

    async def remove(self, asset: Asset) -> None:
        """Gone is gone, also when it was before."""
        status, body = await self._ask("destroy", {"public_id": asset.object_key, "type": _TYPE, "invalidate": "true"})
        if status != 404 and _result(body) not in ("ok", "not found"):
            raise StoreUnavailable("Cloudinary did not say that the asset is gone")

    async def _ask(self, action: str, parameters: dict[str, str]) -> tuple[int, bytes]:
        answer = await self._client.ask("Cloudinary", "POST", self._url(action), form=self._signed(parameters, wall()))
        if answer.status not in (200, 404):
            raise answer.failure("Cloudinary")
        return answer.status, answer.body

    def _signed(self, parameters: dict[str, str], now: float) -> dict[str, str]:
        named = parameters | {"timestamp": str(int(now))}
        given = signature(named, self._account.secret, algorithm=self._account.algorithm)
        return named | {"api_key": self._account.key, "signature": given}

    def _url(self, action: str) -> str:
        return f"{self._account.url}/v1_1/{self._account.cloud}/image/{action}"


def _result(body: bytes) -> Any:
    try:
        answer = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return None
    return answer.get("result") if isinstance(answer, dict) else None
