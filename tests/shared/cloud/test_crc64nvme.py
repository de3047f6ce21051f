"""Against the plain definition, bit by bit, and against values of other implementations."""

import base64
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.cloud.crc64nvme import Crc64Nvme, combined, crc64_nvme, read, written

POLYNOMIAL = 0xAD93D23594C93659
BLOCK = random.Random(7).randbytes(300_000)
WHOLE = 0x254760FAD20709AF


def plain(content: bytes) -> int:
    """The definition: reflected, all ones before and after."""
    value = (1 << 64) - 1
    for byte in content:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (int(f"{POLYNOMIAL:064b}"[::-1], 2) if value & 1 else 0)
    return value ^ ((1 << 64) - 1)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", 0),
        (b"123456789", 0xAE8B14860A799888),
        (bytes(4096), 0x6482D367EB22B64E),
        (b"\xff" * 4096, 0xC0DDBA7302ECA3AC),
    ],
)
def test_known_values(content: bytes, wanted: int) -> None:
    assert crc64_nvme(content) == wanted


@given(st.binary(max_size=200))
def test_short_content_is_as_the_definition_says(content: bytes) -> None:
    assert crc64_nvme(content) == plain(content)


@pytest.mark.parametrize("size", [27_932, 27_933, 27_934, 37_863])
def test_where_folding_begins_it_is_as_the_definition_says(size: int) -> None:
    assert crc64_nvme(BLOCK[:size]) == plain(BLOCK[:size])


@settings(max_examples=30)
@given(st.lists(st.integers(0, 300_000), max_size=6))
def test_any_pieces_give_the_same(cuts: list[int]) -> None:
    whole = Crc64Nvme()
    edges = [0, *sorted(cuts), len(BLOCK)]
    for start, end in pairwise(edges):
        whole.update(memoryview(BLOCK)[start:end])
        if end < 1000:
            assert whole.value() == crc64_nvme(BLOCK[:end]), "asking on the way changes nothing"
    assert whole.size == len(BLOCK)
    assert whole.value() == WHOLE


@settings(max_examples=30)
@given(st.integers(0, 300_000))
def test_two_halves_combine_to_the_whole(cut: int) -> None:
    first, second = BLOCK[:cut], BLOCK[cut:]
    assert combined(crc64_nvme(first), crc64_nvme(second), len(second)) == crc64_nvme(BLOCK)


def test_it_is_written_and_read_as_s3_does() -> None:
    digest = crc64_nvme(b"123456789")
    assert written(digest) == "rosUhgp5mIg="
    assert read("rosUhgp5mIg=") == digest
    assert read("rosUhgp5mIg=-3") is None
    assert read(base64.b64encode(b"four").decode()) is None
    whole = Crc64Nvme()
    whole.update(b"123456789")
    assert whole.digest() == digest.to_bytes(8)
    assert whole.base64() == "rosUhgp5mIg="
