"""A secret names its feed, and what is no secret names none."""

import pytest

from shared.cloud.hook_secret import SECRET_MAX, feed_of_secret, hook_secret


@pytest.mark.parametrize("feed_id", ["drive", "sharepoint:main", "s3:~odd~:63"])
def test_a_secret_names_its_feed(feed_id: str) -> None:
    secret = hook_secret(feed_id, bytes(range(16)))
    assert feed_of_secret(secret) == feed_id
    assert len(secret) <= SECRET_MAX


@pytest.mark.parametrize(
    "foreign",
    [
        "",
        "~" + "0" * 32,
        "drive",
        "drive~00",
        "d" * 120 + "~" + "0" * 32,
        "dri\x00ve~" + "0" * 32,
        "dri\ud800ve~" + "0" * 32,
        "drivé~" + "0" * 32,
    ],
)
def test_what_is_no_secret_names_no_feed(foreign: str) -> None:
    assert feed_of_secret(foreign) is None


def test_a_feed_whose_secret_no_provider_would_take_is_refused() -> None:
    with pytest.raises(ValueError, match="feed id"):
        hook_secret("d" * 120, bytes(16))
    with pytest.raises(ValueError, match="16 bytes"):
        hook_secret("drive", b"short")
