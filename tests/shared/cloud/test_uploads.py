from dataclasses import replace

from shared.cloud.uploads import Asset, Held, UploadPermit

ASSET = Asset("k", "a.jpg", "image/jpeg", 5, "a" * 64, "b" * 32)


def test_what_is_held_is_what_was_announced_only_by_size_and_a_hash() -> None:
    for held in (Held(5, sha256="a" * 64), Held(5, md5="b" * 32), Held(5, sha256="a" * 64, md5="c" * 32)):
        assert held.is_(ASSET)
    for held in (
        Held(5),
        Held(4, sha256="a" * 64),
        Held(-1),
        Held(5, sha256="c" * 64),
        Held(5, md5="c" * 32),
        Held(5, sha256="c" * 64, md5="b" * 32),  # the better hash decides
    ):
        assert not held.is_(ASSET)
    assert not Held(5, md5="b" * 32).is_(replace(ASSET, md5=None))
    assert not Held(5).is_(replace(ASSET, md5=None))


def test_a_permit_shows_nothing_that_admits() -> None:
    permit = UploadPermit("PUT", "http://x/?signature=secret", 1.0, headers={"h": "secret"}, fields={"f": "secret"})
    assert "secret" not in repr(permit)
