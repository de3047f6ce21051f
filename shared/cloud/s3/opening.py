"""From the settings to the provider."""

from collections.abc import Sequence

from shared.cloud.provider import Provider
from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.s3.bucket import Bucket
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.pause import Pause
from shared.cloud.s3.provider import S3Provider
from shared.cloud.sigv4 import Credentials
from shared.cloud.stores import Means

__all__ = ["open_s3"]


def open_s3(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
    """The store `s3`; none when it is not set up."""
    if not (settings.cloud_s3_bucket and settings.cloud_s3_key_id and settings.cloud_s3_secret):
        return []
    client = S3Client(
        Bucket(settings.cloud_s3_bucket, settings.cloud_s3_region, settings.cloud_s3_endpoint),
        Credentials(settings.cloud_s3_key_id, settings.cloud_s3_secret),
        means.http,
        gate=Pause("s3"),
    )
    return [S3Provider(client, prefix=settings.cloud_s3_prefix)]
