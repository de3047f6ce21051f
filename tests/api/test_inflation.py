import gzip
import json
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.inflation import RATIO_FLOOR_BYTES, RATIO_MAX, Inflater
from api.problems import Problem
from tests.api.conftest import RunningApi, problem

MIB = 1024 * 1024


def inflate(*parts: bytes, limit: int = MIB) -> bytes:
    inflater = Inflater(limit)
    for part in parts:
        inflater.feed(part)
    return inflater.whole()


def noise(count: int) -> bytes:
    """Bytes that do not become fewer."""
    return Random(1).randbytes(count)


@given(st.binary(max_size=300), st.integers(1, 40), st.integers(0, 9))
def test_what_was_compressed_comes_out_however_it_is_cut(body: bytes, size: int, level: int) -> None:
    sent = gzip.compress(body, level)
    assert inflate(*(sent[at : at + size] for at in range(0, len(sent), size))) == body


@pytest.mark.parametrize("count", [65_535, 65_536, 65_537, 131_072, 200_000])
@pytest.mark.parametrize("kind", ["noise", "text"])
def test_a_body_of_several_steps_comes_out_whole(kind: str, count: int) -> None:
    body = noise(count) if kind == "noise" else noise(count // 2).hex().encode()
    assert inflate(gzip.compress(body)) == body


def test_the_limit_is_of_what_comes_out() -> None:
    assert inflate(gzip.compress(noise(1000)), limit=1000) == noise(1000)
    with pytest.raises(Problem, match="more than 1000 bytes when inflated") as caught:
        inflate(gzip.compress(noise(1001)), limit=1000)
    assert (caught.value.slug, caught.value.members, caught.value.close) == ("too-large", {"limit": 1000}, True)


def test_a_bomb_is_not_inflated_beyond_the_limit() -> None:
    bomb = gzip.compress(bytes(64 * MIB))
    inflater = Inflater(MIB)
    with pytest.raises(Problem):
        inflater.feed(bomb)
    made = int(repr(inflater).split(" became ")[1].split()[0])
    assert made <= MIB + 64 * 1024


def test_a_ratio_that_no_json_has_is_refused_even_below_the_limit() -> None:
    assert len(inflate(gzip.compress(b" " * RATIO_FLOOR_BYTES))) == RATIO_FLOOR_BYTES
    blanks = gzip.compress(b" " * (RATIO_FLOOR_BYTES * 4))
    assert len(blanks) * RATIO_MAX < RATIO_FLOOR_BYTES * 4
    with pytest.raises(Problem, match=f"inflates more than {RATIO_MAX} times"):
        inflate(blanks)


@pytest.mark.parametrize(
    ("sent", "how"),
    [
        (b"", "ends before"),
        (gzip.compress(b"{}", mtime=0)[:-3], "ends before"),
        (b"{}", "is not gzip"),
        (zlib.compress(b"{}"), "is not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-8] + b"\x00" * 8, "is not gzip"),
        (gzip.compress(b"{}", mtime=0) + b"x", "goes on after"),
        (gzip.compress(b"{}", mtime=0) + gzip.compress(b"{}", mtime=0), "goes on after"),
    ],
)
def test_what_is_not_one_whole_gzip_stream_is_refused(sent: bytes, how: str) -> None:
    with pytest.raises(Problem, match=how) as caught:
        inflate(sent)
    assert caught.value.slug == "invalid-body"


async def test_compressed_requests_are_handled_like_plain_ones(api: RunningApi) -> None:
    path = "/api/v1/devices/truck-7"
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    made = await api.operator.put(path, content=gzip.compress(json.dumps({"class": "truck"}).encode()), headers=headers)
    assert (made.status_code, made.json()["class"]) == (201, "truck")
    bomb = gzip.compress(b'{"class":"' + b" " * 100_000 + b'"}')
    assert problem(await api.operator.put(path, content=bomb, headers=headers), 413, "too-large")["limit"] == 4096
    problem(await api.operator.put(path, content=b"{}", headers=headers), 400, "invalid-body")


async def test_other_codings_are_named_as_unknown(api: RunningApi) -> None:
    headers = {"Content-Type": "application/json", "Content-Encoding": "br"}
    answer = await api.operator.put("/api/v1/devices/truck-7", content=b"{}", headers=headers)
    problem(answer, 415, "unsupported-media-type")
    assert answer.headers["accept-encoding"] == "gzip, identity"
