"""Uploads to the local store, through the files gateway: it verifies our signature and every byte, and asks nobody."""

import base64
import binascii
from typing import Final

from shared.clock import wall
from shared.cloud.errors import StoreUnavailable
from shared.cloud.store_client import Answer, StoreClient
from shared.cloud.uploads import Asset, Held, UploadPermit
from shared.signed_urls import Method, SignedUrls, host_of

__all__ = ["GatewayUploads"]

_ASK_LIFETIME_S: Final = 60.0
# The gateway may have to read all of a large file to say what it is.
_HASH_S: Final = 5.0
_HASH_BYTES_PER_S: Final = 50_000_000


class GatewayUploads:
    """`inner_url` is where we reach the gateway, when that is not where devices do."""

    name: Final = "local"

    def __init__(
        self,
        signed_urls: SignedUrls,
        client: StoreClient,
        *,
        public_url: str,
        inner_url: str | None = None,
        lifetime_s: float,
        size_max: int,
    ) -> None:
        self._signed_urls = signed_urls
        self._client = client
        self._public = public_url.rstrip("/")
        self._inner = (inner_url or public_url).rstrip("/")
        self._host = host_of(public_url).decode()
        self._lifetime_s = lifetime_s
        self.size_max = size_max

    def __repr__(self) -> str:
        return f"GatewayUploads({self._public})"

    def refusal(self, asset: Asset) -> tuple[str, str] | None:
        """It takes everything."""
        return None

    def permit(self, asset: Asset, *, now: float) -> UploadPermit:
        """A PUT of exactly this content."""
        headers = {"Content-Length": str(asset.size), "Content-Type": asset.content_type}
        url = self._sign("PUT", asset, now, self._lifetime_s)
        return UploadPermit("PUT", url, int(now + self._lifetime_s), headers=headers)

    def download(self, asset: Asset, *, now: float) -> str:
        """A GET of it, as an attachment."""
        return self._sign("GET", asset, now, self._lifetime_s)

    async def held(self, asset: Asset) -> Held | None:
        """The size on disk, and the digest of what lies there."""
        deadline_s = _HASH_S + asset.size / _HASH_BYTES_PER_S
        answer = await self._ask("HEAD", "GET", asset, deadline_s)
        match answer.status:
            case 200:
                return Held(int(answer.headers.get("content-length", "-1")), sha256=_digest(answer))
            case 404:
                return None
            case 409:
                return Held(-1)  # of another size than the address was signed for
            case _:
                raise answer.failure("the files gateway")

    async def remove(self, asset: Asset) -> None:
        """Gone is gone, also when it was before."""
        answer = await self._ask("DELETE", "DELETE", asset, None)
        if answer.status not in (204, 404):
            raise answer.failure("the files gateway")

    async def _ask(self, method: str, signed: Method, asset: Asset, deadline_s: float | None) -> Answer:
        url = self._sign(signed, asset, wall(), _ASK_LIFETIME_S)
        headers = {"Host": self._host, "Want-Repr-Digest": "sha-256=10"}
        inner = self._inner + url.removeprefix(self._public)
        return await self._client.ask("the files gateway", method, inner, headers=headers, deadline_s=deadline_s)

    def _sign(self, method: Method, asset: Asset, now: float, lifetime_s: float) -> str:
        return self._signed_urls.sign(
            method,
            asset.object_key,
            size=asset.size,
            sha256=asset.sha256,
            now=now,
            lifetime_s=lifetime_s,
            content_type=asset.content_type,
            name=asset.name,
        )


def _digest(answer: Answer) -> str:
    field = answer.headers.get("repr-digest", "")
    try:
        if not (field.startswith("sha-256=:") and field.endswith(":")):
            raise ValueError(field)
        return base64.b64decode(field[9:-1], validate=True).hex()
    except (binascii.Error, ValueError):
        raise StoreUnavailable("the files gateway did not say the digest; is it as new as the API?") from None
