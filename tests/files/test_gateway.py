import asyncio
import base64
import os
import socket
from hashlib import sha256

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import clock
from shared.signed_urls import SignedUrls
from tests.files.conftest import KEYS, Running, Start

PATH = "Responses/truck-7/load.0190/Grüße 1.csv"


def problem(answer: httpx.Response, status: int, slug: str) -> str:
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    body = answer.json()
    assert (body["type"], body["status"]) == (f"urn:fleetwire:problem:{slug}", status)
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["title"]
    return str(body["detail"])


async def test_a_signed_file_is_downloaded_as_an_attachment_that_no_browser_runs(running: Running) -> None:
    content = os.urandom(700_001)
    running.put_file(PATH, content)
    answer = await running.client.get(running.url("GET", PATH, content, content_type="text/html"))
    assert answer.status_code == 200
    assert answer.content == content
    assert answer.headers["content-length"] == "700001"
    assert answer.headers["content-type"] == "text/html"
    assert answer.headers["etag"] == f'"{sha256(content).hexdigest()}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-disposition"].endswith("filename*=UTF-8''Gr%C3%BC%C3%9Fe%201.csv")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "no-store" in answer.headers["cache-control"]


async def test_head_answers_like_get_without_the_content(running: Running) -> None:
    running.put_file(PATH, b"content")
    url = running.url("GET", PATH, b"content")
    got, head = await running.client.get(url), await running.client.head(url)
    assert head.status_code == 200
    assert head.content == b""
    ignored = ("date", "x-request-id")
    assert [h for h in head.headers.items() if h[0] not in ignored] == [
        h for h in got.headers.items() if h[0] not in ignored
    ]


async def test_an_empty_file_is_downloaded(running: Running) -> None:
    running.put_file("empty", b"")
    answer = await running.client.get(running.url("GET", "empty"))
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [("bytes=0-0", 0, 0), ("bytes=-5", 299_995, 299_999), ("bytes=250000-", 250_000, 299_999)],
)
async def test_a_part_is_downloaded(running: Running, header: str, first: int, last: int) -> None:
    content = os.urandom(300_000)
    running.put_file("f", content)
    answer = await running.client.get(running.url("GET", "f", content), headers={"Range": header})
    assert answer.status_code == 206
    assert answer.headers["content-range"] == f"bytes {first}-{last}/300000"
    assert answer.content == content[first : last + 1]
    assert answer.headers["etag"] == f'"{sha256(content).hexdigest()}"'


async def test_a_download_cut_anywhere_is_resumed_with_if_range(running: Running) -> None:
    content = os.urandom(100_000)
    running.put_file("f", content)
    url = running.url("GET", "f", content)
    etag = f'"{sha256(content).hexdigest()}"'
    answer = await running.client.get(url, headers={"Range": "bytes=40000-", "If-Range": etag})
    assert (answer.status_code, answer.content) == (206, content[40_000:])
    answer = await running.client.get(url, headers={"Range": "bytes=40000-", "If-Range": '"other"'})
    assert (answer.status_code, answer.content) == (200, content)


async def test_a_range_beyond_the_end_is_416_with_the_size(running: Running) -> None:
    running.put_file("f", b"12345")
    answer = await running.client.get(running.url("GET", "f", b"12345"), headers={"Range": "bytes=5-"})
    assert (answer.status_code, answer.headers["content-range"], answer.content) == (416, "bytes */5", b"")


async def test_several_ranges_are_answered_by_the_whole(running: Running) -> None:
    running.put_file("f", b"12345")
    answer = await running.client.get(running.url("GET", "f", b"12345"), headers={"Range": "bytes=0-1,3-4"})
    assert (answer.status_code, answer.content) == (200, b"12345")


async def test_a_client_that_has_the_content_is_told_so(running: Running) -> None:
    running.put_file("f", b"12345")
    etag = f'"{sha256(b"12345").hexdigest()}"'
    for header in (etag, "*", f'"x", W/{etag}'):
        answer = await running.client.get(running.url("GET", "f", b"12345"), headers={"If-None-Match": header})
        assert (answer.status_code, answer.headers["etag"]) == (304, etag)
    answer = await running.client.get(running.url("GET", "f", b"12345"), headers={"If-None-Match": '"x"'})
    assert answer.status_code == 200


async def test_an_upload_becomes_a_file_once_and_its_repetition_changes_nothing(running: Running) -> None:
    content = os.urandom(1_500_000)
    url = running.url("PUT", "Requests/truck-7/photo.jpg", content)
    first = await running.client.put(url, content=content)
    assert (first.status_code, first.json()) == (201, {"size": 1_500_000, "sha256": sha256(content).hexdigest()})
    file = running.root / "Requests/truck-7/photo.jpg"
    inode = file.stat().st_ino
    again = await running.client.put(url, content=content)
    assert (again.status_code, again.json()) == (200, first.json())
    assert (file.read_bytes(), file.stat().st_ino) == (content, inode)
    assert running.drafts() == []


async def test_an_upload_never_replaces_a_file(running: Running) -> None:
    running.put_file("f", b"theirs")
    problem(await running.client.put(running.url("PUT", "f", b"longer than"), content=b"longer than"), 409, "exists")
    problem(await running.client.put(running.url("PUT", "f", b"mine!!"), content=b"mine!!"), 409, "exists")
    assert (running.root / "f").read_bytes() == b"theirs"
    assert running.drafts() == []


async def test_of_many_uploads_of_one_name_one_becomes_the_file(running: Running) -> None:
    contents = [os.urandom(200_000) for _ in range(8)]
    answers = await asyncio.gather(
        *(running.client.put(running.url("PUT", "one", content), content=content) for content in contents)
    )
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    (made,) = [c for c, answer in zip(contents, answers, strict=True) if answer.status_code == 201]
    assert (running.root / "one").read_bytes() == made
    assert running.drafts() == []


async def test_content_that_is_not_what_was_signed_becomes_no_file(running: Running) -> None:
    url = running.url("PUT", "f", b"right")
    problem(await running.client.put(url, content=b"wrong"), 400, "content-mismatch")
    problem(await running.client.put(url, content=b"righ"), 400, "content-mismatch")
    problem(await running.client.put(url, content=b"right+"), 413, "too-large")
    assert list(running.root.iterdir()) == []
    assert running.drafts() == []


async def test_an_upload_says_its_length_and_comes_plain(running: Running) -> None:
    async def chunked() -> object:
        yield b"right"

    url = running.url("PUT", "f", b"right")
    problem(await running.client.put(url, content=chunked()), 411, "length-required")  # type: ignore[arg-type]
    gzip = {"Content-Encoding": "gzip"}
    problem(await running.client.put(url, content=b"right", headers=gzip), 415, "unsupported-media-type")
    part = {"Content-Range": "bytes 0-4/5"}
    problem(await running.client.put(url, content=b"right", headers=part), 400, "invalid-request")
    assert (await running.client.put(url, content=b"right")).status_code == 201


async def test_an_upload_above_the_limit_is_refused_whatever_was_signed(start: Start) -> None:
    async with start(upload_max_bytes=10) as running:
        problem(await running.client.put(running.url("PUT", "f", b"x" * 11), content=b"x" * 11), 413, "too-large")
        assert (await running.client.put(running.url("PUT", "f", b"x" * 10), content=b"x" * 10)).status_code == 201


async def test_a_refused_upload_leaves_the_connection_usable(running: Running) -> None:
    for _ in range(3):
        big = b"x" * 400_000
        answer = await running.client.put(running.url("PUT", "f", b"right"), content=big)
        problem(answer, 413, "too-large")
    assert (await running.client.put(running.url("PUT", "f", b"right"), content=b"right")).status_code == 201


async def test_an_upload_asks_for_the_content_only_when_it_is_admitted(running: Running) -> None:
    expecting = ("PUT", "Content-Length: 5", "Expect: 100-continue")
    reader, writer = await running.connect(running.url("PUT", "f", b"right"), *expecting)
    assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
    writer.write(b"right")
    assert b" 201 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()
    reader, writer = await running.connect(running.url("PUT", "f", b"other"), "PUT", *expecting[1:])
    (running.root / "f").unlink()
    (running.root / "f").mkdir()
    assert b" 404 " in (await reader.readuntil(b"\r\n\r\n")).replace(b" 100 Continue\r\n\r\nHTTP/1.1", b"")
    writer.close()


async def test_an_address_that_was_altered_admits_nothing(running: Running) -> None:
    running.put_file("f", b"12345")
    running.put_file("g", b"67890")
    url = running.url("GET", "f", b"12345")
    problem(await running.client.get(url.replace("/files/f", "/files/g")), 403, "forbidden")
    problem(await running.client.get(url.replace("size=5", "size=6")), 403, "forbidden")
    problem(await running.client.get(url[:-1] + ("A" if url[-1] != "A" else "B")), 403, "forbidden")
    problem(await running.client.get(url + "&x=1"), 400, "invalid-address")
    problem(await running.client.get(url.split("?")[0]), 400, "invalid-address")
    problem(await running.client.get(url.replace("key=k1", "key=k2")), 403, "forbidden")
    problem(await running.client.put(url, content=b"12345"), 403, "forbidden")
    problem(await running.client.post(url, content=b"12345"), 405, "method-not-allowed")
    problem(await running.client.patch(url), 405, "method-not-allowed")


async def test_an_address_for_another_host_admits_nothing_here(running: Running) -> None:
    running.put_file("f", b"12345")
    elsewhere = SignedUrls(KEYS, "http://other.example").sign(
        "GET", "f", size=5, sha256=sha256(b"12345").hexdigest(), now=clock.wall(), lifetime_s=60
    )
    here = elsewhere.replace("other.example", f"127.0.0.1:{running.port}")
    problem(await running.client.get(here), 403, "forbidden")
    problem(await running.client.get(here, headers={"Host": "other.example"}), 403, "forbidden")
    ours = running.url("GET", "f", b"12345")
    problem(await running.client.get(ours, headers={"Host": "other.example"}), 403, "forbidden")
    assert (await running.client.get(ours)).status_code == 200


async def test_the_host_in_a_whole_address_goes_before_the_header(running: Running) -> None:
    running.put_file("f", b"12345")
    url = running.url("GET", "f", b"12345")

    async def status(target: str, host: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.split(b" ")[1]

    ours = f"127.0.0.1:{running.port}"
    assert await status(url, ours) == b"200"
    assert await status(url, "other.example") == b"200"
    assert await status(url.replace(ours, "other.example"), ours) == b"403"
    assert await status(f"http://{ours}/health", "x") == b"200"


async def test_an_expired_address_is_gone(running: Running) -> None:
    running.put_file("f", b"12345")
    url = running.url("GET", "f", b"12345", now=clock.wall() - 61, lifetime_s=60)
    problem(await running.client.get(url), 410, "expired")
    problem(
        await running.client.put(running.url("PUT", "g", b"1", now=clock.wall() - 301, lifetime_s=300)), 410, "expired"
    )


@pytest.mark.parametrize(
    "path", ["../secret", "a/../../secret", "/secret", "a//b", "a/%2e%2e/b/../c", "a\0b", "x" * 201]
)
async def test_no_path_leads_out_of_the_root_even_when_it_is_signed(running: Running, path: str) -> None:
    (running.root.parent / "secret").write_bytes(b"12345")
    running.put_file("a/f", b"")
    for method in ("GET", "PUT"):
        url = running.url(method, path, b"12345")
        # By hand: a client would resolve the dots.
        reader, writer = await running.connect(url, method, "Content-Length: " + ("5" if method == "PUT" else "0"))
        writer.write(b"12345" if method == "PUT" else b"")
        assert b" 400 " in await reader.readline()
        writer.close()
    assert (running.root.parent / "secret").read_bytes() == b"12345"


async def test_links_pipes_and_folders_are_not_served(running: Running) -> None:
    (running.root.parent / "secret").write_bytes(b"12345")
    (running.root / "link").symlink_to(running.root.parent / "secret")
    (running.root / "folder").symlink_to(running.root.parent)
    os.mkfifo(running.root / "pipe")
    (running.root / "real").mkdir()
    for path in ("link", "folder/secret", "pipe", "real", "none", "none/none"):
        problem(await running.client.get(running.url("GET", path, b"12345")), 404, "not-found")
    for path in ("link", "folder/new", "pipe", "real"):
        problem(await running.client.put(running.url("PUT", path, b"12345"), content=b"12345"), 404, "not-found")
    assert sorted(file.name for file in running.root.parent.iterdir()) == ["cloud", "secret", "tmp"]


async def test_a_file_of_another_size_than_was_signed_is_not_served(running: Running) -> None:
    running.put_file("f", b"123456")
    problem(await running.client.get(running.url("GET", "f", b"12345")), 409, "changed")


async def test_a_file_that_shrinks_during_its_download_is_cut_and_not_padded(running: Running) -> None:
    content = os.urandom(30_000_000)
    running.put_file("f", content)
    reader, writer = await running.connect(running.url("GET", "f", content), "GET")
    await reader.readuntil(b"\r\n\r\n")
    os.truncate(running.root / "f", 1000)
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(len(content))
    writer.close()
    await running.until(lambda: len(running.transfers) == 0)


async def test_an_upload_that_stops_midway_is_refused_and_leaves_nothing(start: Start) -> None:
    async with start(stall_s=0.05) as running:
        reader, writer = await running.connect(running.url("PUT", "f", b"x" * 1000), "PUT", "Content-Length: 1000")
        writer.write(b"x" * 500)
        assert b" 408 " in await reader.readline()
        writer.close()
        await running.until(lambda: len(running.transfers) == 0)
        assert running.drafts() == []
        assert list(running.root.iterdir()) == []


async def test_an_upload_that_trickles_is_ended_by_the_least_rate(start: Start) -> None:
    async with start(transfer_min_s=0.1, bytes_per_s_min=1_000_000) as running:
        reader, writer = await running.connect(running.url("PUT", "f", b"x" * 1000), "PUT", "Content-Length: 1000")

        async def trickle() -> None:
            while True:
                writer.write(b"x")
                await asyncio.sleep(0.02)

        trickling = asyncio.create_task(trickle())
        assert b" 408 " in await reader.readline()
        trickling.cancel()
        writer.close()
        await running.until(lambda: len(running.transfers) == 0)
        assert running.drafts() == []


async def test_an_upload_whose_client_goes_away_leaves_nothing(running: Running) -> None:
    _, writer = await running.connect(running.url("PUT", "f", b"x" * 1000), "PUT", "Content-Length: 1000")
    writer.write(b"x" * 500)
    await running.until(lambda: len(running.drafts()) == 1)
    writer.transport.abort()
    await running.until(lambda: len(running.transfers) == 0)
    assert running.drafts() == []
    assert list(running.root.iterdir()) == []


async def test_a_reader_that_takes_nothing_is_cut_off(start: Start) -> None:
    async with start(stall_write_s=0.1) as running:
        content = os.urandom(40_000_000)
        running.put_file("f", content)
        stalled = socket.socket()
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.setblocking(False)
        await asyncio.get_running_loop().sock_connect(stalled, ("127.0.0.1", running.port))
        reader, writer = await asyncio.open_connection(sock=stalled, limit=1)
        path = running.url("GET", "f", content).partition(str(running.port))[2]
        writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{running.port}\r\n\r\n".encode())
        await running.until(lambda: len(running.transfers) == 1)
        await running.until(lambda: len(running.transfers) == 0)
        writer.transport.abort()
        del reader


def put_endless(running: Running) -> str:
    """A file of a terabyte that takes no space; the address of it."""
    running.put_file("f", b"")
    os.truncate(running.root / "f", 2**40)
    return running.url("GET", "f", size=2**40)


async def test_a_download_whose_client_goes_away_stops_reading(running: Running) -> None:
    reader, writer = await running.connect(put_endless(running), "GET")
    await reader.readexactly(100_000)
    assert len(running.transfers) == 1
    writer.transport.abort()
    await running.until(lambda: len(running.transfers) == 0)


async def test_a_download_beyond_its_time_frees_its_connection_though_nobody_reads(start: Start) -> None:
    async with start(transfer_min_s=0.1, bytes_per_s_min=2**60, stall_write_s=60) as running:
        reader, writer = await running.connect(put_endless(running), "GET")
        await reader.readexactly(100_000)
        await running.until(lambda: len(running.transfers) == 0)
        await running.until(lambda: running.connections() == 0)
        writer.transport.abort()


async def test_one_transfer_too_many_is_told_when_to_come_back(start: Start) -> None:
    async with start(transfers_max=1) as running:
        running.put_file("g", b"1")
        _, writer = await running.connect(running.url("PUT", "f", b"x" * 10), "PUT", "Content-Length: 10")
        await running.until(lambda: len(running.transfers) == 1)
        answer = await running.client.get(running.url("GET", "g", b"1"))
        problem(answer, 503, "unavailable")
        assert int(answer.headers["retry-after"]) > 0
        writer.transport.abort()
        await running.until(lambda: len(running.transfers) == 0)
        assert (await running.client.get(running.url("GET", "g", b"1"))).status_code == 200


async def test_a_leaving_gateway_finishes_what_runs_and_admits_nothing_new(running: Running) -> None:
    reader, writer = await running.connect(running.url("PUT", "f", b"x" * 10), "PUT", "Content-Length: 10")
    await running.until(lambda: len(running.transfers) == 1)
    leaving = asyncio.create_task(running.transfers.leave(10))
    await running.until(lambda: running.transfers.leaving)
    problem(await running.client.get(running.url("GET", "f", b"x" * 10)), 503, "unavailable")
    assert (await running.client.get(f"http://127.0.0.1:{running.port}/ready")).status_code == 503
    writer.write(b"x" * 10)
    assert b" 201 " in await reader.readline()
    writer.close()
    await leaving


async def test_anyone_may_ask_for_health_and_nothing_else_is_there(running: Running) -> None:
    base = f"http://127.0.0.1:{running.port}"
    assert (await running.client.get(f"{base}/health")).json() == {"status": "alive"}
    assert (await running.client.get(f"{base}/ready")).json() == {"status": "ready"}
    for path in ("/", "/v1/files", "/v1/other/f", "/metrics", "/%2e%2e/v1/files/f"):
        problem(await running.client.get(base + path), 404, "not-found")


async def test_a_download_takes_no_body(running: Running) -> None:
    running.put_file("f", b"1")
    answer = await running.client.request("GET", running.url("GET", "f", b"1"), content=b"body")
    problem(answer, 400, "invalid-request")


def test_no_request_line_breaks_the_gateway(start: Start) -> None:
    with asyncio.Runner() as runner:
        gateway = start()
        running = runner.run(gateway.__aenter__())

        async def ask(raw: bytes) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
            writer.write(b"GET /v1/files/" + raw + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            assert answer[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 403")
            assert b"application/problem+json" in answer
            writer.close()

        @settings(max_examples=100, deadline=None)
        @given(st.binary(min_size=1, max_size=300).filter(lambda raw: not {10, 13} & set(raw)))
        def check(raw: bytes) -> None:
            runner.run(ask(raw))

        check()
        runner.run(ask(b"still there"))
        runner.run(gateway.__aexit__(None, None, None))


def digest_field(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(sha256(content).digest()).decode()}:"


WANT = {"Want-Repr-Digest": "sha-256=10"}


async def test_a_head_that_wants_the_digest_is_told_that_of_what_lies_there(running: Running) -> None:
    running.put_file("f", b"12345")
    url = running.url("GET", "f", b"12345")
    assert "repr-digest" not in (await running.client.head(url)).headers
    assert "repr-digest" not in (await running.client.head(url, headers={"Want-Repr-Digest": "sha-256=0"})).headers
    assert (await running.client.head(url, headers=WANT)).headers["repr-digest"] == digest_field(b"12345")
    running.put_file("f", b"54321")
    # The address still says what was signed; the digest is of the disk.
    assert (await running.client.head(url, headers=WANT)).headers["repr-digest"] == digest_field(b"54321")


async def test_the_digest_of_an_upload_is_known_without_reading_it_again(running: Running) -> None:
    content = os.urandom(300_000)
    assert (await running.client.put(running.url("PUT", "Photos/p", content), content=content)).status_code == 201
    kept = (running.root / "Photos/p").stat()
    (running.root / "Photos/p").write_bytes(b"x" * 300_000)
    os.utime(running.root / "Photos/p", ns=(kept.st_atime_ns, kept.st_mtime_ns))
    url = running.url("GET", "Photos/p", content)
    assert (await running.client.head(url, headers=WANT)).headers["repr-digest"] == digest_field(content)


async def test_what_the_api_signed_away_is_removed_and_a_repetition_finds_nothing(running: Running) -> None:
    running.put_file("Photos/p", b"1")
    url = running.url("DELETE", "Photos/p", b"")
    assert (await running.client.delete(url)).status_code == 204
    assert not (running.root / "Photos/p").exists()
    problem(await running.client.delete(url), 404, "not-found")


async def test_nothing_but_an_upload_that_was_not_kept_is_removed(running: Running) -> None:
    running.put_file("Responses/truck-7/r", b"1")
    running.put_file("Photos/folder/p", b"1")
    for path in ("Responses/truck-7/r", "Photosx/p", "Photos"):
        problem(await running.client.delete(running.url("DELETE", path, b"")), 403, "forbidden")
    problem(await running.client.delete(running.url("DELETE", "Photos/folder", b"")), 404, "not-found")
    # Bare, since the client would tidy the path up.
    reader, writer = await running.connect(running.url("DELETE", "Photos/../Responses/truck-7/r"), "DELETE")
    assert b" 400 " in await reader.readline()
    writer.close()
    assert (running.root / "Responses/truck-7/r").exists()
    assert (running.root / "Photos/folder/p").exists()


async def test_an_address_of_one_method_removes_nothing_by_another(running: Running) -> None:
    running.put_file("Photos/p", b"1")
    for method in ("GET", "PUT"):
        problem(await running.client.delete(running.url(method, "Photos/p", b"1")), 403, "forbidden")
    for ask in (running.client.get, running.client.head, running.client.put):
        answer = await ask(running.url("DELETE", "Photos/p", b"1"))
        assert answer.status_code == 403
    assert (running.root / "Photos/p").exists()


async def test_an_upload_takes_no_longer_than_any_transfer_may(start: Start) -> None:
    async with start(transfer_max_s=0.1) as running:
        reader, writer = await running.connect(running.url("PUT", "f", b"x" * 10), "PUT", "Content-Length: 10")
        assert b" 408 " in await reader.readline()
        writer.close()
        await running.until(lambda: len(running.transfers) == 0)
