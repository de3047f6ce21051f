"""quickXorHash against its definition, one bit at a time, and in pieces of any sizes."""

import base64
import time

from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.quick_xor import QuickXor, quick_xor


def by_definition(content: bytes) -> bytes:
    """As the definition says it: bit by bit."""
    bits = [0] * 160
    for index, byte in enumerate(content):
        for bit in range(8):
            bits[(index * 11 + bit) % 160] ^= byte >> bit & 1
    found = bytearray(sum(bits[8 * at + bit] << bit for bit in range(8)) for at in range(20))
    for at, byte in enumerate(len(content).to_bytes(8, "little")):
        found[12 + at] ^= byte
    return bytes(found)


def test_nothing_and_single_bytes_have_the_hashes_that_graph_says() -> None:
    assert quick_xor(b"") == "AAAAAAAAAAAAAAAAAAAAAAAAAAA="
    assert quick_xor(b"J") == "SgAAAAAAAAAAAAAAAQAAAAAAAAA="
    assert quick_xor(base64.b64decode("tbQ=")) == "taAFAAAAAAAAAAAAAgAAAAAAAAA="
    assert quick_xor(base64.b64decode("/aNzzCFPS/A=")) == "/RjFHJgRgicsAR4ACAAAAAAAAAA="
    assert quick_xor(base64.b64decode("2fuxhBJXtpWFe8dOfdGeHw==")) == "O9tHLAghgSvYohKFyMMxnNCHaHg="


@given(st.integers(0, 30_000), st.binary(min_size=1, max_size=300), st.lists(st.integers(0, 30_000), max_size=5))
def test_pieces_of_any_sizes_give_the_hash_of_the_definition(size: int, seed: bytes, cuts: list[int]) -> None:
    content = (seed * (size // len(seed) + 1))[:size]
    whole = QuickXor()
    before = 0
    for cut in [*sorted(cuts), size]:
        whole.update(memoryview(content)[before:cut])
        before = max(before, min(cut, size))
    assert whole.size == size
    assert whole.digest() == by_definition(content)


def test_the_digest_of_the_beginning_does_not_disturb_the_rest() -> None:
    whole = QuickXor()
    whole.update(b"a" * 161)
    assert whole.digest() == by_definition(b"a" * 161)
    whole.update(b"b" * 20_000)
    assert whole.digest() == by_definition(b"a" * 161 + b"b" * 20_000)


def test_it_is_no_bottleneck_of_an_upload() -> None:
    content = bytes(range(256)) * 4096
    best = 0.0
    for _ in range(20):
        whole = QuickXor()
        begun = time.thread_time()
        for _ in range(4):
            whole.update(content)
        best = max(best, whole.size / max(time.thread_time() - begun, 1e-9))
    assert best > 200e6
