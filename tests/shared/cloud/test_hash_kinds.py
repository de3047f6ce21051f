from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.hash_kinds import ContentHashes, agree, computed, proven
from shared.cloud.hashes import digest_of
from tests.shared.cloud.contract import hashed


@given(st.binary(max_size=3_000), st.lists(st.integers(0, 3_000), max_size=5))
def test_all_hashes_come_of_one_pass_however_the_content_is_cut(content: bytes, cuts: list[int]) -> None:
    hashes = ContentHashes({"md5", "quick_xor", "crc64nvme"})
    at = 0
    for cut in [*sorted(cuts), len(content)]:
        hashes.update(content[at:cut])
        at = max(at, min(cut, len(content)))
    assert hashes.values() == hashed(content)
    assert hashes.digest() == digest_of(content)


def test_our_own_hash_is_always_among_them() -> None:
    assert ContentHashes(()).values().keys() == {"sha256"}
    assert computed({"md5"}) == {"md5"}


def test_hashes_agree_when_all_that_both_know_are_equal() -> None:
    assert agree({"md5": "a", "sha256": "b"}, {"md5": "a"}) is True
    assert agree({"md5": "a", "sha256": "b"}, {"md5": "a", "sha256": "c"}) is False
    assert agree({"md5": "a"}, {"sha256": "a"}) is None
    assert agree({}, {}) is None


def test_only_a_sha256_proves_that_two_are_the_same_and_any_hash_that_they_are_not() -> None:
    assert proven({"quick_xor": "a"}, {"quick_xor": "a"}) is None
    assert proven({"quick_xor": "a"}, {"quick_xor": "b"}) is False
    assert proven({"quick_xor": "a", "sha256": "c"}, {"quick_xor": "a", "sha256": "c"}) is True
