"""The stores that photos are in, built from the settings: one takes new ones, all that are set up give theirs out."""

from collections.abc import Mapping

from shared.cloud.cloudinary_uploads import Cloudinary, CloudinaryUploads
from shared.cloud.gateway_uploads import GatewayUploads
from shared.cloud.photo_settings import PhotoSettings
from shared.cloud.s3_uploads import Bucket, S3Uploads
from shared.cloud.sigv4 import Credentials
from shared.cloud.store_client import StoreClient
from shared.cloud.uploads import UploadStore
from shared.signed_urls import SignedUrls

__all__ = ["UploadStores", "open_upload_stores"]


class UploadStores:
    """By name; `current` takes what is new."""

    def __init__(self, stores: Mapping[str, UploadStore], current: str, client: StoreClient) -> None:
        self._stores = stores
        self.current = stores[current]
        self._client = client

    def __repr__(self) -> str:
        return f"UploadStores({', '.join(self._stores)}; new: {self.current.name})"

    def get(self, name: str) -> UploadStore | None:
        """The store of that name, or None when it is not set up here."""
        return self._stores.get(name)

    async def close(self) -> None:
        """Give the connections to all of them up."""
        await self._client.close()


def open_upload_stores(settings: PhotoSettings, signed_urls: SignedUrls, *, files_url: str) -> UploadStores:
    """Nothing is asked yet."""
    client = StoreClient(deadline_s=settings.photo_deadline_s)
    stores: dict[str, UploadStore] = {
        "local": GatewayUploads(
            signed_urls,
            client,
            public_url=files_url,
            inner_url=settings.files_inner_url,
            lifetime_s=settings.photo_url_s,
            size_max=settings.photo_max_bytes,
        )
    }
    if settings.s3_bucket and settings.s3_key_id and settings.s3_secret:
        stores["s3"] = S3Uploads(
            Bucket(settings.s3_bucket, settings.s3_region, settings.s3_endpoint),
            Credentials(settings.s3_key_id, settings.s3_secret),
            client,
            lifetime_s=settings.photo_url_s,
            size_max=settings.photo_max_bytes,
        )
    if settings.cloudinary_cloud and settings.cloudinary_key and settings.cloudinary_secret:
        stores["cloudinary"] = CloudinaryUploads(
            Cloudinary(
                settings.cloudinary_url,
                settings.cloudinary_cloud,
                settings.cloudinary_key,
                settings.cloudinary_secret,
                settings.cloudinary_hash,
            ),
            client,
            lifetime_s=settings.photo_url_s,
            size_max=settings.photo_max_bytes,
        )
    return UploadStores(stores, settings.photo_store, client)
