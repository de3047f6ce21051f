"""Files: resumed, checked, never over another file, and never with the token."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from device import (
    DownloadError,
    FileDiffers,
    FileGone,
    ForeignOrigin,
    HashMismatch,
    ResponseFile,
    Timing,
    TransportError,
)
from device.credential import Credential
from device.download import Downloads
from device.rest import Rest
from tests.device.fleet import Fleet, problem

FAST = Timing().faster(40)
CONTENT = Random(5).randbytes(700_000)


@pytest.fixture
async def downloads(fleet: Fleet) -> AsyncIterator[Downloads]:
    rest = Rest(fleet.api_url, "truck-7", Credential(fleet.token, deadline_s=1.0), timing=FAST)
    made = Downloads(rest, timing=FAST, rand=Random(3))
    yield made
    await made.close()
    await rest.close()


def said(fleet: Fleet, content: bytes = CONTENT, **changes: Any) -> ResponseFile:
    return ResponseFile.from_data({**fleet.file("photo.jpg", content), **changes})


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.endswith(".part")]


def cut_after(count: int, *, start: int = 0) -> tuple[int, dict[str, str], bytes]:
    """An answer that ends too early."""
    headers = {"Content-Length": str(len(CONTENT) - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
    return (206 if start else 200), headers, CONTENT[start : start + count]


async def test_a_file_is_fetched_from_the_store_without_the_token(
    fleet: Fleet, downloads: Downloads, tmp_path: Path
) -> None:
    path = await downloads.fetch(said(fleet), tmp_path / "inbox")
    assert path == tmp_path / "inbox" / "photo.jpg"
    assert path.read_bytes() == CONTENT
    assert parts(path.parent) == []
    assert "authorization" in fleet.requests[0][2]
    assert all("authorization" not in headers and "cookie" not in headers for headers in fleet.file_headers)


@pytest.mark.parametrize("size", [0, 1, 65536, 262144, 262145])
async def test_any_size_is_complete(fleet: Fleet, downloads: Downloads, tmp_path: Path, size: int) -> None:
    content = CONTENT[:size]
    assert (await downloads.fetch(said(fleet, content), tmp_path)).read_bytes() == content


async def test_a_cut_transfer_goes_on_where_it_stopped(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.store_answers = [cut_after(100_000), cut_after(1, start=100_000), cut_after(300_000, start=100_001)]
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT
    ranges = [headers.get("range") for headers in fleet.file_headers]
    assert ranges == [None, "bytes=100000-", "bytes=100001-", "bytes=400001-"]


async def test_what_an_earlier_run_left_is_taken_up(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.store_answers = [cut_after(100_000), (404, {}, b"")]
    with pytest.raises(FileGone):
        await downloads.fetch(said(fleet), tmp_path)
    (part,) = parts(tmp_path)
    assert part.stat().st_size == 100_000
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT
    assert fleet.file_headers[-1]["range"] == "bytes=100000-"


async def test_a_damaged_rest_of_an_earlier_run_is_fetched_anew(
    fleet: Fleet, downloads: Downloads, tmp_path: Path
) -> None:
    fleet.store_answers = [cut_after(100_000), (404, {}, b"")]
    with pytest.raises(FileGone):
        await downloads.fetch(said(fleet), tmp_path)
    (part,) = parts(tmp_path)
    with part.open("r+b") as damaged:
        damaged.write(b"damage")
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT


async def test_a_store_without_ranges_is_read_from_the_start(
    fleet: Fleet, downloads: Downloads, tmp_path: Path
) -> None:
    fleet.store_answers = [cut_after(100_000), (200, {}, CONTENT)]
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT


async def test_an_expired_address_is_asked_for_again(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.store_answers = [(403, {}, b"expired"), cut_after(10), (403, {}, b"expired")]
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT
    assert len([target for _, target, _ in fleet.requests if target.startswith("/api/v1/files/")]) == 4


async def test_a_file_that_is_there_is_not_fetched_again(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    await downloads.fetch(said(fleet), tmp_path)
    fleet.requests.clear()
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT
    assert fleet.requests == []
    assert parts(tmp_path) == []


async def test_another_file_of_that_name_is_left_alone(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    mine = tmp_path / "photo.jpg"
    for content in (b"mine", b"x" * len(CONTENT)):
        mine.write_bytes(content)
        with pytest.raises(FileDiffers, match="left as it is"):
            await downloads.fetch(said(fleet), tmp_path)
        assert mine.read_bytes() == content
    mine.unlink()
    mine.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileDiffers):
        await downloads.fetch(said(fleet), tmp_path)
    assert not (tmp_path / "elsewhere").exists()
    assert parts(tmp_path) == []
    assert fleet.requests == []


async def test_a_file_that_appears_meanwhile_is_left_alone(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fetching = asyncio.create_task(downloads.fetch(said(fleet), tmp_path))
    while not fleet.requests:
        await asyncio.sleep(0)
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(FileDiffers):
        await fetching
    assert (tmp_path / "photo.jpg").read_bytes() == b"mine"


async def test_wrong_bytes_are_not_kept(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.store_answers = [(200, {}, CONTENT[:-1] + b"?")]
    with pytest.raises(HashMismatch):
        await downloads.fetch(said(fleet), tmp_path)
    fleet.store_answers = [(200, {}, CONTENT + b"more")]
    with pytest.raises(HashMismatch, match="more than"):
        await downloads.fetch(said(fleet), tmp_path)
    assert not (tmp_path / "photo.jpg").exists()


async def test_a_store_that_stays_away_is_given_up_after_some_tries(
    fleet: Fleet, downloads: Downloads, tmp_path: Path
) -> None:
    fleet.store_answers = [(500, {}, b"")] * 50
    with pytest.raises(TransportError, match="HTTP 500"):
        await downloads.fetch(said(fleet), tmp_path)
    assert 40 < len(fleet.store_answers) < 48


async def test_a_file_the_api_does_not_have_is_gone(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.api_refusals = [problem(404, detail="there is no such file")]
    with pytest.raises(FileGone, match="no such file"):
        await downloads.fetch(said(fleet), tmp_path)


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/api/v1/files/f-1",
        "//elsewhere.example/api/v1/files/f-1",
        "/api/v1/devices/truck-7",
        "/api/v1/files/../devices",
        "/api/v1/files/f-1?token=1",
        "/api/v1/files/f%2d1",
        "file:///etc/passwd",
        "",
    ],
)
async def test_the_token_goes_nowhere_but_to_the_apis_files(
    fleet: Fleet, downloads: Downloads, tmp_path: Path, url: str
) -> None:
    with pytest.raises(ForeignOrigin):
        await downloads.fetch(said(fleet, url=url), tmp_path)
    assert fleet.requests == []


async def test_a_redirect_must_stay_with_http(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.file_location = "ftp://elsewhere.example/x"
    with pytest.raises(ForeignOrigin):
        await downloads.fetch(said(fleet), tmp_path)


async def test_redirects_of_the_store_are_followed_a_few_times(
    fleet: Fleet, downloads: Downloads, tmp_path: Path
) -> None:
    hop = (302, {"Location": "/store/f-1"}, b"")
    fleet.store_answers = [hop, hop]
    assert (await downloads.fetch(said(fleet), tmp_path)).read_bytes() == CONTENT
    fleet.store_answers = [hop] * 9
    with pytest.raises(DownloadError, match="redirects"):
        await downloads.fetch(said(fleet, name="again.jpg"), tmp_path)


async def test_two_downloads_of_one_file_do_not_mix(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    results = await asyncio.gather(*(downloads.fetch(said(fleet), tmp_path) for _ in range(3)), return_exceptions=True)
    assert (tmp_path / "photo.jpg").read_bytes() == CONTENT
    for result in results:
        assert isinstance(result, Path) or "being downloaded already" in str(result)


FETCHER = """
import asyncio, json, resource, sys
from pathlib import Path
from random import Random
from device import ResponseFile, Timing
from device.credential import Credential
from device.download import Downloads
from device.rest import Rest

async def main():
    api, folder, *entries = sys.argv[1:]
    rest = Rest(api, "truck-7", Credential("token-1", deadline_s=1.0), timing=Timing())
    downloads = Downloads(rest, timing=Timing(), rand=Random(3))
    for entry in entries:
        await downloads.fetch(ResponseFile.from_data(json.loads(entry)), Path(folder))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)

asyncio.run(main())
"""


async def test_memory_does_not_grow_with_the_file(fleet: Fleet, tmp_path: Path) -> None:
    """A process that has fetched a small file needs next to nothing more for one of 64 MiB."""
    small = fleet.file("small", CONTENT, file_id="f-1")
    large = fleet.file("large", b"0123456789abcdef" * (4 * 1024 * 1024), file_id="f-2")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FETCHER, fleet.api_url, str(tmp_path), json.dumps(small), json.dumps(large)),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    out, _ = await asyncio.wait_for(process.communicate(), 30)
    before, after = (int(line) for line in out.split())
    assert (tmp_path / "large").stat().st_size == large["size"]
    assert after - before < 8 * 1024, "KiB"


async def test_no_encoding_is_taken_that_was_not_asked_for(fleet: Fleet, downloads: Downloads, tmp_path: Path) -> None:
    fleet.store_answers = [(200, {"Content-Encoding": "gzip"}, CONTENT)]
    with pytest.raises(DownloadError, match="encoding"):
        await downloads.fetch(said(fleet), tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "../x"}, "path component"),
        ({"name": "a/b"}, "path component"),
        ({"name": "a\0b"}, "control"),
        ({"name": "x" * 201}, "200"),
        ({"name": ""}, "empty"),
        ({"name": "\udcff"}, "UTF-8"),
        ({"name": 3}, "name must be text"),
        ({"size": -1}, "size"),
        ({"size": True}, "size"),
        ({"size": "12"}, "size"),
        ({"sha256": "A" * 64}, "sha256"),
        ({"sha256": None}, "sha256"),
        ({"file_id": "../../x"}, "file_id"),
        ({"url": None}, "url"),
    ],
)
def test_what_the_event_says_of_a_file_is_checked(changes: dict[str, Any], complaint: str) -> None:
    entry = {"file_id": "f", "name": "n", "size": 1, "sha256": "0" * 64, "url": "/api/v1/files/f", **changes}
    with pytest.raises(DownloadError, match=re.escape(complaint)):
        ResponseFile.from_data(entry)


@pytest.mark.parametrize("ranges", [True, False])
async def test_a_store_that_holds_too_few_bytes_is_believed_after_some_tries(
    fleet: Fleet, downloads: Downloads, tmp_path: Path, ranges: bool
) -> None:
    """Each answer is whole, so the network is not to blame; without ranges each try begins anew."""
    file = said(fleet)
    fleet.files[file.file_id] = CONTENT[:500_000]
    if not ranges:
        fleet.store_answers = [(200, {}, CONTENT[:500_000])] * 99
    with pytest.raises(HashMismatch, match="700000 bytes were announced"):
        await downloads.fetch(file, tmp_path)
    assert len(fleet.file_headers) <= 14
    assert not (tmp_path / "photo.jpg").exists()


async def test_a_store_that_is_cut_at_the_same_byte_each_time_is_given_up(
    fleet: Fleet, downloads: Downloads, tmp_path: Path
) -> None:
    fleet.store_answers = [cut_after(300_000)] * 99  # it takes no ranges
    with pytest.raises(TransportError):
        await downloads.fetch(said(fleet), tmp_path)
    assert 6 <= len(fleet.file_headers) <= 16
