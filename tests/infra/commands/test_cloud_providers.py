"""The commands on emulated providers, set up by nothing but the environment."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.commands import cloud, cloud_follow
from infra.commands.cloud_doctor import examine_cloud
from infra.commands.cloud_stores import CloudCommandSettings
from infra.commands.doctor import Finding
from infra.commands.errors import CommandFailed
from loadtests.emulators.drive import running_drive
from loadtests.emulators.graph import DRIVE, running_graph
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from loadtests.s3_process import KEY, S3Server, running_s3
from shared.cloud.hashes import digest_of
from shared.settings import load
from shared.store import feeds, remote_feeds
from shared.store.pool import open_pool
from tests.shared.cloud.contract import made_up
from tests.waiting import until_so

Environ = dict[str, str]


@dataclass(frozen=True)
class Set:
    """A provider that is set up, and its secret put wrong."""

    store: str
    environ: Environ
    wrong: Environ


@pytest.fixture(scope="module")
def s3_server() -> Iterator[S3Server]:
    with running_s3() as running:
        yield running


@pytest.fixture
async def set_up(
    request: pytest.FixtureRequest, tmp_path: Path, s3_server: S3Server, database_url: str
) -> AsyncIterator[Set]:
    home = {"FLEETWIRE_HOME": str(tmp_path / "home")}
    match request.param:
        case "s3":
            environ = {
                "FLEETWIRE_S3_BUCKET": s3_server.bucket.name,
                "FLEETWIRE_S3_ENDPOINT": s3_server.url,
                "FLEETWIRE_S3_PREFIX": tmp_path.name,
                "FLEETWIRE_S3_KEY_ID": KEY.key_id,
                "FLEETWIRE_S3_SECRET": KEY.secret,
            }
            yield Set("s3", home | environ, {"FLEETWIRE_S3_SECRET": "another"})
        case "sharepoint":
            async with running_graph(tmp_path / "graph") as graph:
                environ = {
                    "FLEETWIRE_GRAPH_URL": graph.url,
                    "FLEETWIRE_GRAPH_LOGIN_URL": graph.url,
                    "FLEETWIRE_GRAPH_TENANT": TENANT,
                    "FLEETWIRE_GRAPH_CLIENT_ID": CLIENT_ID,
                    "FLEETWIRE_GRAPH_CLIENT_SECRET": CLIENT_SECRET,
                    "FLEETWIRE_GRAPH_DRIVES": f"fleet={DRIVE}",
                }
                yield Set("sharepoint:fleet", home | environ, {"FLEETWIRE_GRAPH_CLIENT_SECRET": "another"})
        case _:
            async with running_drive(tmp_path / "drive") as drive:
                key = drive.account.write_key_file(tmp_path / "key.json", f"{drive.url}/token")
                environ = {
                    "FLEETWIRE_DRIVE_URL": drive.url,
                    "FLEETWIRE_DRIVE_KEY_FILE": str(key),
                    "FLEETWIRE_DRIVE_ROOTS": f"trucks={drive.folder('Fleet')}",
                    "FLEETWIRE_DATABASE_URL": database_url,
                }
                yield Set("drive:trucks", home | environ, {"FLEETWIRE_DRIVE_ROOTS": "trucks=no-such-folder"})


each = pytest.mark.parametrize("set_up", ["s3", "sharepoint", "drive"], indirect=True)


@each
async def test_a_large_file_goes_there_and_comes_back(
    set_up: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = made_up(21 * 1024 * 1024)
    source = tmp_path / "video.mp4"
    source.write_bytes(content)
    environ, store = set_up.environ, set_up.store
    put = await asyncio.to_thread(
        cloud.put, environ, source, "Requests/truck-7/", store=store, content_type=None, count_on=False
    )
    assert put == 0
    assert json.loads(capsys.readouterr().out) == {
        "store": store,
        "path": "Requests/truck-7/video.mp4",
        "size": len(content),
        "sha256": digest_of(content).sha256,
        "existed": False,
    }
    assert await asyncio.to_thread(cloud.ls, environ, "Requests", store=store, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["path"] == "Requests/truck-7/video.mp4"
    back = tmp_path / "back.mp4"
    assert await asyncio.to_thread(cloud.get, environ, "Requests/truck-7/video.mp4", back, store=store) == 0
    assert back.read_bytes() == content


@each
async def test_the_doctor_finds_a_good_store_good_and_says_what_is_wrong_with_another(set_up: Set) -> None:
    def said(findings: list[Finding], verdict: str) -> list[str]:
        return [f"{one.what} → {one.mend}" for one in findings if one.verdict == verdict]

    findings = await examine_cloud(load(CloudCommandSettings, set_up.environ))
    assert said(findings, "bad") == []
    assert f"{set_up.store}: keeps a file from being overwritten by a move → " in said(findings, "good")
    assert any("clock is right" in line for line in said(findings, "good"))
    if set_up.wrong:
        findings = await examine_cloud(load(CloudCommandSettings, set_up.environ | set_up.wrong))
        (line,) = said(findings, "bad")
        assert line.startswith(f"{set_up.store}: credentials")
        assert "docs/cloud-stores.md#" in line


@each
async def test_changes_are_told_by_the_store_itself(
    set_up: Set, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"x")
    environ, store = set_up.environ, set_up.store
    watching = asyncio.create_task(
        asyncio.to_thread(cloud_follow.watch, environ, "a", store=store, every_s=0.2, count=1, as_json=True)
    )
    said: list[str] = []

    def watches() -> bool:
        said.append(capsys.readouterr().err)
        return "watching" in "".join(said)

    await until_so(watches, "it says that it watches", deadline_s=30)
    async with asyncio.timeout(30):
        await asyncio.to_thread(cloud.put, environ, source, "a/f", store=store, content_type=None, count_on=False)
        assert await watching == 0
    (told,) = [one for one in map(json.loads, capsys.readouterr().out.splitlines()) if "what" in one]
    assert (told["what"], told["path"], told["store"]) == ("new", "a/f", store)


async def test_a_resync_is_asked_of_the_watchers_and_followed_to_its_end(
    tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {
        "FLEETWIRE_HOME": str(tmp_path / "home"),
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_S3_BUCKET": "depot",
        "FLEETWIRE_S3_KEY_ID": "k",
        "FLEETWIRE_S3_SECRET": "s",
    }
    with pytest.raises(CommandFailed, match="no watcher has begun with s3"):
        await asyncio.to_thread(cloud_follow.resync, environ, store="s3", wait=False, timeout_s=1)
    pool = await open_pool(database_url, name="test", max_size=2)
    ids = ["s3:0", "s3:1"]
    await feeds.ensure(pool, [feeds.Feed(feed_id, "s3", "s3", int(feed_id[-1])) for feed_id in ids])
    assert await asyncio.to_thread(cloud_follow.resync, environ, store="s3", wait=True, timeout_s=0.1) == 1
    assert "not over within" in capsys.readouterr().err
    assert await remote_feeds.full_asked(pool, ids) == ids

    following = asyncio.create_task(
        asyncio.to_thread(cloud_follow.resync, environ, store="s3", wait=True, timeout_s=60)
    )
    for feed_id in ids:
        await pool.fetch(
            "UPDATE feeds SET phase = 'full', full_began_at = clock_timestamp(), full_pages = 3, full_items = 40 "
            "WHERE feed_id = $1",
            feed_id,
        )
    # The runs end when they are asked for again, as a watcher would have it.
    while not following.done():
        await pool.fetch("UPDATE feeds SET phase = 'changes', generation = generation + 1 WHERE root = 's3'")
        await asyncio.wait({following}, timeout=0.2)
    assert await following == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["feeds"], summary["over"], summary["pages"], summary["items"]) == (2, 2, 6, 80)
    await pool.close()


async def test_a_key_that_cannot_be_read_holds_up_no_other_store(tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    environ = {
        "FLEETWIRE_HOME": str(tmp_path / "home"),
        "FLEETWIRE_CLOUD_ROOT": str(tmp_path / "cloud"),
        "FLEETWIRE_DRIVE_KEY_FILE": str(tmp_path / "none.json"),
        "FLEETWIRE_DRIVE_ROOTS": "trucks=1",
    }
    findings = await examine_cloud(load(CloudCommandSettings, environ))
    (bad,) = [one.what for one in findings if one.verdict == "bad"]
    assert bad.startswith("FLEETWIRE_DRIVE_KEY_FILE=")
    assert any(one.what == "local: may write a file" for one in findings)
