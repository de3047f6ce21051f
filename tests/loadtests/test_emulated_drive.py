"""What the emulated Google Drive does by itself: it calls, badly if told so, and obeys from outside."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.emulators.drive import DriveEmulator, running_drive
from loadtests.emulators.drive_corpus import DriveError
from loadtests.emulators.drive_query import masked, parse_mask, parse_query
from loadtests.emulators.serving import serving


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[DriveEmulator]:
    async with running_drive(tmp_path / "drive") as emulator:
        yield emulator


@asynccontextmanager
async def listener(statuses: list[int]) -> AsyncIterator[tuple[str, list[dict[str, str]]]]:
    heard: list[dict[str, str]] = []

    async def hook(request: Request) -> Response:
        assert await request.body() == b""
        heard.append(dict(request.headers))
        return Response(status_code=statuses.pop(0) if statuses else 204)

    async with serving(Starlette(routes=[Route("/hook", hook, methods=["POST"])])) as url:
        yield f"{url}/hook", heard


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def watch(drive: DriveEmulator, address: str, more: dict[str, Any] | None = None) -> None:
    body = {"id": "channel", "type": "web_hook", "address": address, "token": "secret"} | (more or {})
    drive.channels.watch(body, uri=f"{drive.url}/changes", drive_id=None, everywhere=True, allow_http=True)


async def test_a_channel_says_sync_and_then_that_something_changed(drive: DriveEmulator) -> None:
    async with listener([]) as (address, heard):
        watch(drive, address)
        await until(lambda: len(heard) == 1)
        drive.put("a.txt", b"x")
        await until(lambda: len(heard) == 2)
        drive.clock.advance(4000)
        drive.put("b.txt", b"x")
    assert [one["x-goog-resource-state"] for one in heard] == ["sync", "change"]
    assert [one["x-goog-message-number"] for one in heard] == ["1", "2"]
    assert {one["x-goog-channel-token"] for one in heard} == {"secret"}
    assert drive.channels.open == {}, "its hour is over"


async def test_messages_are_repeated_lost_and_tried_again(drive: DriveEmulator) -> None:
    async with listener([503]) as (address, heard):
        watch(drive, address)
        await until(lambda: len(heard) == 2)
        drive.channels.faults.repeat = 1.0
        drive.put("a.txt", b"x")
        await until(lambda: len(heard) == 4)
        drive.channels.faults.drop = 1.0
        drive.put("b.txt", b"x")
        drive.channels.faults.drop = drive.channels.faults.repeat = 0.0
        drive.put("c.txt", b"x")
        await until(lambda: len(heard) == 5)
    assert [one["x-goog-message-number"] for one in heard] == ["1", "1", "2", "2", "4"]


@pytest.mark.parametrize("wrong", [{"type": "email"}, {"id": ""}, {"address": "ftp://x"}, {"token": "x" * 257}])
async def test_a_channel_that_google_would_refuse_is_refused(drive: DriveEmulator, wrong: dict[str, str]) -> None:
    with pytest.raises(DriveError):
        watch(drive, "https://fleet.example.com/hook", wrong)


async def test_it_obeys_from_outside(drive: DriveEmulator) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=drive.url) as http:

        async def told(**orders: Any) -> Any:
            return (await http.post("/control", json=orders)).json()

        folder = (await told(folder={"path": "Fleet/Requests"}))["id"]
        content = base64.b64encode(b"hello").decode()
        made = (await told(put={"name": "a.txt", "content": content, "parent": folder}))["id"]
        assert drive.content(made) == b"hello"
        await told(change={"id": made, "name": "b.txt", "trashed": True})
        assert drive.corpus.trashed(drive.corpus.file(made))
        await told(delete=made)
        assert made not in drive.corpus.files
        said = await told(faults=[{"call": "files.*", "status": 500}], set={"page_max": 5}, advance=5)
        assert (drive.page_max, len(said["faults"])) == (5, 1)
        assert (await http.post("/control", json={"nonsense": 1})).status_code == 400


async def test_without_a_token_nothing_is_told(drive: DriveEmulator) -> None:
    async with httpx.AsyncClient(trust_env=False, base_url=drive.url) as http:
        answer = await http.get("/drive/v3/files")
        assert answer.status_code == 401
        assert answer.json()["error"]["errors"][0]["reason"] == "authError"


async def test_a_parameter_that_a_call_does_not_know_is_refused(drive: DriveEmulator) -> None:
    drive.account.tokens["good"] = drive.clock.now() + 60
    async with httpx.AsyncClient(trust_env=False, base_url=drive.url, headers={"Authorization": "Bearer good"}) as http:
        assert (await http.get("/drive/v3/files/generateIds?count=2&space=drive")).status_code == 200
        answer = await http.get("/drive/v3/files/generateIds?count=2&supportsAllDrives=true")
    assert answer.status_code == 400
    assert answer.json()["error"]["errors"][0]["location"] == "supportsAllDrives"


def test_fields_choose_from_an_answer() -> None:
    value = {"a": 1, "b": [{"c": 2, "d": {"e": 3, "f": 4}}], "g": 5}
    assert masked(value, parse_mask("a,b(c,d/e)")) == {"a": 1, "b": [{"c": 2, "d": {"e": 3}}]}
    assert masked(value, parse_mask("*")) == value
    for wrong in ("a,(b", "b(", "a//b"):
        with pytest.raises(DriveError):
            parse_mask(wrong)


async def test_queries_mean_files(drive: DriveEmulator) -> None:
    fleet, other = drive.folder("Fleet"), drive.folder("Other")
    first = drive.put("it's.txt", b"", parent=fleet)
    second = drive.put("b.txt", b"", parent=other)

    def meant(query: str) -> set[str]:
        parsed = parse_query(query)
        return {one.id for one in drive.corpus.files.values() if parsed.matches(drive.corpus, one)}

    assert meant(f"'{fleet}' in parents and name = 'It\\'s.TXT'") == {first.id}
    assert meant(f"('{fleet}' in parents or '{other}' in parents) and not name contains 'b'") == {first.id}
    assert second.id in meant("mimeType != 'application/vnd.google-apps.folder' and trashed = false")
    for wrong in ("name", "name ~ 'x'", "('a' in parents", "trashed = maybe", "name = 'a' b"):
        with pytest.raises(DriveError):
            parse_query(wrong)
