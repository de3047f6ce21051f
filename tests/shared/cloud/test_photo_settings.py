import pytest

from api.settings import Settings
from shared.settings import SettingsError, load

BASE = {"FLEETWIRE_DATABASE_URL": "postgresql://x", "FLEETWIRE_REDIS_URL": "redis://x"}


def photo_settings(**changes: str) -> Settings:
    return load(Settings, BASE | {f"FLEETWIRE_{name}": value for name, value in changes.items()})


def test_without_any_photos_go_to_the_local_store_within_bounds() -> None:
    settings = photo_settings()
    assert (settings.photo_store, settings.photo_max_bytes, settings.photo_pending_max) == ("local", 2**31, 100)
    assert {"image/jpeg", "image/heic"} <= settings.photo_types


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"PHOTO_STORE": "ftp"}, "FLEETWIRE_PHOTO_STORE"),
        ({"PHOTO_STORE": "s3", "PHOTO_S3_BUCKET": "b"}, "FLEETWIRE_PHOTO_S3_KEY_ID and FLEETWIRE_PHOTO_S3_SECRET"),
        ({"PHOTO_STORE": "cloudinary"}, "FLEETWIRE_PHOTO_CLOUDINARY_CLOUD"),
        ({"PHOTO_CLOUDINARY_CLOUD": "c"}, "FLEETWIRE_PHOTO_CLOUDINARY_KEY"),
        ({"PHOTO_TYPES": "image/jpeg,text/html"}, "FLEETWIRE_PHOTO_TYPES"),
        ({"PHOTO_TYPES": "image/svg+xml"}, "scripts"),
        ({"PHOTO_S3_ENDPOINT": "ftp://x"}, "FLEETWIRE_PHOTO_S3_ENDPOINT"),
        ({"PHOTO_S3_ENDPOINT": "http://x/path"}, "FLEETWIRE_PHOTO_S3_ENDPOINT"),
        ({"PHOTO_S3_BUCKET": "a/b"}, "FLEETWIRE_PHOTO_S3_BUCKET"),
        ({"PHOTO_CLOUDINARY_CLOUD": "a?b"}, "FLEETWIRE_PHOTO_CLOUDINARY_CLOUD"),
        ({"PHOTO_PENDING_S": "10"}, "FLEETWIRE_PHOTO_PENDING_S"),
        (
            {
                "PHOTO_STORE": "cloudinary",
                "PHOTO_CLOUDINARY_CLOUD": "c",
                "PHOTO_CLOUDINARY_KEY": "k",
                "PHOTO_CLOUDINARY_SECRET": "s",
                "PHOTO_PENDING_S": "3000",
            },
            "FLEETWIRE_PHOTO_PENDING_S",
        ),
        ({"FILES_INNER_URL": "files:8090"}, "FLEETWIRE_FILES_INNER_URL"),
    ],
)
def test_what_is_wrong_or_missing_is_named(changes: dict[str, str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        photo_settings(**changes)


def test_no_secret_shows() -> None:
    secrets = {"PHOTO_S3_SECRET": "not told", "PHOTO_CLOUDINARY_SECRET": "not told either"}
    settings = photo_settings(
        PHOTO_S3_BUCKET="b",
        PHOTO_S3_KEY_ID="k",
        PHOTO_CLOUDINARY_CLOUD="c",
        PHOTO_CLOUDINARY_KEY="k",
        **secrets,
    )
    assert "not told" not in repr(settings)
    with pytest.raises(SettingsError) as caught:
        photo_settings(PHOTO_S3_SECRET="x" * 300)
    assert "xxx" not in str(caught.value)
