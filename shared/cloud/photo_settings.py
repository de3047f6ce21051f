"""Where photos are uploaded to, and within which bounds; a base class of the API's settings."""

import re
from dataclasses import dataclass
from typing import Final

from shared.cloud.cloudinary_signature import HashName
from shared.settings import bounded_float, bounded_int, choice, setting, text
from shared.signed_urls import LIFETIME_MAX_S, host_of

__all__ = ["PhotoSettings"]

_MEDIA_TYPE: Final = re.compile(r"image/[a-z0-9][a-z0-9.+-]{0,62}", re.ASCII)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}", re.ASCII)
_TYPES: Final = frozenset(f"image/{one}" for one in ("jpeg", "png", "webp", "gif", "heic", "heif", "avif", "tiff"))


def _types(raw: str) -> frozenset[str]:
    types = [part.strip() for part in raw.split(",") if part.strip()]
    if not 1 <= len(types) <= 64 or any(_MEDIA_TYPE.fullmatch(one) is None for one in types):
        raise ValueError("not 1 to 64 types such as image/jpeg, with commas")
    if "image/svg+xml" in types:
        raise ValueError("image/svg+xml is no photo: it can hold scripts")
    return frozenset(types)


def _base_url(raw: str) -> str:
    host_of(raw)
    return raw.rstrip("/")


def _name(raw: str) -> str:
    if _NAME.fullmatch(raw) is None:
        raise ValueError("not 1 to 127 characters of A-Z a-z 0-9 . _ -")
    return raw


@dataclass(frozen=True, kw_only=True)
class PhotoSettings:
    """New photos go to one store; those that are in another stay there and are served while it is set up."""

    photo_store: str = setting(
        "FLEETWIRE_PHOTO_STORE",
        "local",
        help="Where devices upload new photos to.",
        parse=choice("local", "s3", "cloudinary"),
    )
    photo_max_bytes: int = setting(
        "FLEETWIRE_PHOTO_MAX_BYTES", 2 * 1024**3, help="Largest photo.", parse=bounded_int(1, 5 * 1024**3)
    )
    photo_types: frozenset[str] = setting(
        "FLEETWIRE_PHOTO_TYPES", _TYPES, help="Content types taken, with commas.", parse=_types
    )
    photo_pending_max: int = setting(
        "FLEETWIRE_PHOTO_PENDING_MAX",
        100,
        help="Photos that one device or person may have reserved and not confirmed.",
        parse=bounded_int(1, 10_000),
    )
    photo_pending_s: float = setting(
        "FLEETWIRE_PHOTO_PENDING_S",
        86_400.0,
        help="How long a reserved photo waits for its confirmation; longer than any upload takes.",
        parse=bounded_float(1, 30 * 86_400),
    )
    photo_url_s: float = setting(
        "FLEETWIRE_PHOTO_URL_S",
        float(LIFETIME_MAX_S),
        help="How long an upload may be begun.",
        parse=bounded_float(1, LIFETIME_MAX_S),
    )
    photo_sweep_s: float = setting(
        "FLEETWIRE_PHOTO_SWEEP_S",
        60.0,
        help="How often photos that were never confirmed are looked for and removed.",
        parse=bounded_float(0.02, 86_400),
    )
    photo_deadline_s: float = setting(
        "FLEETWIRE_PHOTO_DEADLINE_S",
        10.0,
        help="Seconds that a photo store may take to answer.",
        parse=bounded_float(0.05, 30),
    )
    files_inner_url: str | None = setting(
        "FLEETWIRE_FILES_INNER_URL",
        None,
        help="Where the API itself reaches the files gateway; default: FLEETWIRE_FILES_URL.",
        parse=_base_url,
    )
    s3_bucket: str | None = setting("FLEETWIRE_PHOTO_S3_BUCKET", None, help="Bucket of photos.", parse=_name)
    s3_region: str = setting("FLEETWIRE_PHOTO_S3_REGION", "us-east-1", help="Region of the bucket.", parse=_name)
    s3_endpoint: str | None = setting(
        "FLEETWIRE_PHOTO_S3_ENDPOINT",
        None,
        help="S3 of somebody else: http(s)://host:port, with the bucket in the path; default: AWS.",
        parse=_base_url,
    )
    s3_key_id: str | None = setting(
        "FLEETWIRE_PHOTO_S3_KEY_ID",
        None,
        help="Access key: may put, get, delete and list in the bucket.",
        parse=text(max_length=256),
    )
    s3_secret: str | None = setting(
        "FLEETWIRE_PHOTO_S3_SECRET", None, help="Its secret.", parse=text(max_length=256), secret=True
    )
    cloudinary_cloud: str | None = setting(
        "FLEETWIRE_PHOTO_CLOUDINARY_CLOUD", None, help="Cloud name at Cloudinary.", parse=_name
    )
    cloudinary_key: str | None = setting(
        "FLEETWIRE_PHOTO_CLOUDINARY_KEY", None, help="API key at Cloudinary.", parse=_name
    )
    cloudinary_secret: str | None = setting(
        "FLEETWIRE_PHOTO_CLOUDINARY_SECRET", None, help="API secret.", parse=text(max_length=256), secret=True
    )
    cloudinary_hash: HashName = setting(
        "FLEETWIRE_PHOTO_CLOUDINARY_HASH",
        "sha1",
        help="What the account signs with.",
        parse=choice("sha1", "sha256"),
    )
    cloudinary_url: str = setting(
        "FLEETWIRE_PHOTO_CLOUDINARY_URL", "https://api.cloudinary.com", help="Where its API is.", parse=_base_url
    )

    def photo_problems(self) -> list[str]:
        """What is missing for the stores that are named."""
        problems = []
        for store, needed in _NEEDED.items():
            missing = [variable for name, variable in needed.items() if getattr(self, name) is None]
            if self.photo_store == store and missing:
                problems.append(f"{' and '.join(missing)} not set: FLEETWIRE_PHOTO_STORE={store} needs it")
            elif missing and len(missing) < len(needed):
                problems.append(f"{' and '.join(missing)} not set, though the others for {store} are")
        # What is signed must not outlive the reservation it is signed for.
        begins_s = 3600.0 if self.photo_store == "cloudinary" else self.photo_url_s
        if self.photo_pending_s < begins_s:
            problems.append(
                f"FLEETWIRE_PHOTO_PENDING_S is wrong: an upload may begin for {begins_s:g} s, so not below that"
            )
        return problems


_NEEDED: Final = {
    "s3": {
        "s3_bucket": "FLEETWIRE_PHOTO_S3_BUCKET",
        "s3_key_id": "FLEETWIRE_PHOTO_S3_KEY_ID",
        "s3_secret": "FLEETWIRE_PHOTO_S3_SECRET",
    },
    "cloudinary": {
        "cloudinary_cloud": "FLEETWIRE_PHOTO_CLOUDINARY_CLOUD",
        "cloudinary_key": "FLEETWIRE_PHOTO_CLOUDINARY_KEY",
        "cloudinary_secret": "FLEETWIRE_PHOTO_CLOUDINARY_SECRET",
    },
}
