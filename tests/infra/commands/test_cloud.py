"""The commands on a folder of this machine, and what they say of stores that are wrong."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from uuid import UUID

import pytest

from infra.commands import cloud, cloud_doctor, cloud_follow, cloud_move
from infra.commands.cloud_doctor import FOLDER, examine_cloud
from infra.commands.cloud_stores import CloudCommandSettings
from infra.commands.doctor import Finding
from infra.commands.errors import CommandFailed
from loadtests.ports import free_port
from shared.clock import wall
from shared.cloud.errors import NotFound
from shared.cloud.hashes import Digest, digest_of
from shared.cloud.local_provider import LocalProvider
from shared.cloud.provider import Object, Part, Probe, Upload
from shared.cloud.store import Existed, Source, Stored
from shared.settings import SettingsError, load
from shared.store import cloud_uploads
from shared.store.pool import open_pool
from tests.shared.cloud.contract import made_up

Environ = dict[str, str]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "cloud"
    made.mkdir()
    return made


@pytest.fixture
def environ(tmp_path: Path, folder: Path) -> Environ:
    return {"FLEETWIRE_HOME": str(tmp_path / "home"), "FLEETWIRE_CLOUD_ROOT": str(folder)}


def put(environ: Environ, file: Path, path: str, *, count_on: bool = False) -> int:
    return cloud.put(environ, file, path, store="local", content_type=None, count_on=count_on)


@pytest.mark.parametrize("size", [0, 10, 70 * 1024 * 1024])
def test_a_file_comes_back_as_it_was_put(
    environ: Environ, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], size: int
) -> None:
    content = made_up(size)
    source = tmp_path / "photo.jpg"
    source.write_bytes(content)
    assert put(environ, source, "Responses/truck-7/") == 0
    made = json.loads(capsys.readouterr().out)
    assert made == {
        "store": "local",
        "path": "Responses/truck-7/photo.jpg",
        "size": size,
        "sha256": digest_of(content).sha256,
        "existed": False,
    }
    assert (folder / "Responses/truck-7/photo.jpg").read_bytes() == content
    back = tmp_path / "back.jpg"
    assert cloud.get(environ, "Responses/truck-7/photo.jpg", back, store="local") == 0
    assert json.loads(capsys.readouterr().out)["sha256"] == digest_of(content).sha256
    assert back.read_bytes() == content
    assert {path.name for path in tmp_path.iterdir()} <= {"photo.jpg", "back.jpg", "cloud", "cloud-tmp", "home"}


def test_nothing_is_overwritten_there_or_here(
    environ: Environ, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "f"
    source.write_bytes(b"one")
    put(environ, source, "a/f")
    assert put(environ, source, "a/f") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["existed"] is True
    source.write_bytes(b"two")
    with pytest.raises(CommandFailed, match="nothing was changed"):
        put(environ, source, "a/f")
    with pytest.raises(CommandFailed, match="is there"):
        cloud.get(environ, "a/f", source, store="local")
    assert (source.read_bytes(), (folder / "a/f").read_bytes()) == (b"two", b"one")


def test_what_is_not_there_is_said(environ: Environ, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        cloud.get(environ, "a/none", tmp_path / "x", store="local")
    with pytest.raises(CommandFailed, match="is no folder"):
        cloud.get(environ, "a/none", tmp_path / "none" / "x", store="local")
    with pytest.raises(CommandFailed, match="no store s3 is set up in this environment; there is local"):
        cloud.ls(environ, "", store="s3", as_json=False)
    with pytest.raises(CommandFailed, match="this needs the database"):
        put(
            environ | {"FLEETWIRE_DATABASE_URL": f"postgresql://x@127.0.0.1:{free_port()}/x"},
            _file(tmp_path),
            "f",
            count_on=True,
        )
    with pytest.raises(SettingsError, match="FLEETWIRE_S3_SECRET"):
        cloud.ls(environ | {"FLEETWIRE_S3_BUCKET": "b", "FLEETWIRE_S3_KEY_ID": "k"}, "", store="s3", as_json=False)
    assert list(tmp_path.glob("x*")) == []


def _file(tmp_path: Path, content: bytes = b"content") -> Path:
    made = tmp_path / "made here"
    made.write_bytes(content)
    return made


def test_other_content_goes_under_the_next_name_when_that_is_wanted(
    environ: Environ, folder: Path, tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_database = environ | {"FLEETWIRE_DATABASE_URL": database_url}
    for content in (b"one", b"two", b"one"):
        put(with_database, _file(tmp_path, content), "a/photo.jpg", count_on=True)
    made = [json.loads(line)["path"] for line in capsys.readouterr().out.splitlines()]
    assert made == ["a/photo.jpg", "a/photo (v2).jpg", "a/photo.jpg"]


def test_a_folder_is_listed_for_people_and_for_programs(
    environ: Environ, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a").mkdir()
    (folder / "a/f.txt").write_bytes(b"seven b")
    (folder / "other").write_bytes(b"")
    assert cloud.ls(environ, "a/", store="local", as_json=True) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert (json.loads(line)["path"], json.loads(line)["size"]) == ("a/f.txt", 7)
    assert cloud.ls(environ, "", store="local", as_json=False) == 0
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert "2 files, 7 bytes in local" in said.err


@pytest.fixture
def meanwhile() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Do something in a thread beside the command."""
    threads: list[threading.Thread] = []

    def begin(work: Callable[[], None]) -> None:
        threads.append(threading.Thread(target=work))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join()


def test_what_changes_is_told_as_the_store_tells_it(
    environ: Environ,
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    meanwhile: Callable[[Callable[[], None]], None],
) -> None:
    (folder / "a").mkdir()
    (folder / "a/old").write_bytes(b"x")
    (folder / "a/goes").write_bytes(b"x")

    def change() -> None:
        deadline = time.monotonic() + 30
        said = ""
        while "watching" not in said and time.monotonic() < deadline:
            said += capsys.readouterr().err
            time.sleep(0.02)
        (folder / "not told").write_bytes(b"x")
        (folder / "a/goes").unlink()
        (folder / "a/old").write_bytes(b"longer")
        (folder / "a/new").write_bytes(b"new")

    meanwhile(change)
    assert cloud_follow.watch(environ, "a", store="local", every_s=0.05, count=3, as_json=True) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {(one["what"], one["path"]) for one in told} == {("gone", "a/goes"), ("changed", "a/old"), ("new", "a/new")}


def test_a_resync_needs_a_watcher_and_a_store_that_forgets_nothing_by_itself(
    environ: Environ, database_url: str
) -> None:
    with pytest.raises(CommandFailed, match="needs none"):
        cloud_follow.resync(environ, store="local", wait=False, timeout_s=1)


# The doctor


def verdicts(environ: Environ) -> list[Finding]:
    return asyncio.run(examine_cloud(load(CloudCommandSettings, environ)))


def test_a_good_store_is_good_line_by_line_and_nothing_is_left_of_the_trial(environ: Environ, folder: Path) -> None:
    findings = verdicts(environ)
    said = [finding.what for finding in findings]
    assert [finding for finding in findings if finding.verdict == "bad"] == []
    for line in (
        "credentials are good",
        "GiB free",
        "may write a file",
        "keeps a file from being overwritten",
        "may move",
    ):
        assert any(what.startswith("local: ") and line in what for what in said), line
    assert said[-1] == "new responses go to local 100%"
    assert FOLDER not in {path.name for path in folder.iterdir()}


def test_a_folder_that_takes_no_files_is_bad_and_says_why(environ: Environ, folder: Path, tmp_path: Path) -> None:
    (folder / FOLDER).write_bytes(b"in the way")
    (finding, *_) = [one for one in verdicts(environ) if one.verdict == "bad"]
    assert finding.what.startswith("local: may not write a file")
    assert finding.mend


def test_no_store_at_all_is_bad(environ: Environ, tmp_path: Path) -> None:
    findings = verdicts({"FLEETWIRE_HOME": str(tmp_path / "none")})
    assert any(one.verdict == "bad" and "no store" in one.what for one in findings)
    (gone,) = verdicts({"FLEETWIRE_HOME": str(tmp_path / "none"), "FLEETWIRE_CLOUD_ROOT": str(tmp_path / "gone")})
    assert (gone.verdict, "make it" in gone.what) == ("bad", True)


def test_the_whole_verdict_is_the_status(environ: Environ, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cloud_doctor.run(environ) == 0
    assert "nothing bad" in capsys.readouterr().out
    (folder / FOLDER).write_bytes(b"in the way")
    assert cloud_doctor.run(environ) == 1
    assert "BAD  local: may not write a file" in capsys.readouterr().out


class Careless(LocalProvider):
    """A store that puts one file in the place of another."""

    async def move(self, path: str, to: str, *, object_id: str | None = None) -> Object:
        await self.remove(to)
        return await super().move(path, to)

    async def finish(self, upload: Upload, parts: Sequence[Part]) -> Object:
        await self.remove(upload.path)
        return await super().finish(upload, parts)

    async def put_new(self, path: str, source: Source, *, expect: Digest | None = None) -> Stored | Existed:
        await self.remove(path)
        return await super().put_new(path, source, expect=expect)


def test_a_store_that_overwrites_is_found_in_each_way_that_it_does(
    environ: Environ, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.commands.cloud_stores.LocalProvider", Careless)
    bad = [one.what for one in verdicts(environ) if one.verdict == "bad"]
    assert [what.partition(": a file was overwritten")[0] for what in bad if "overwritten" in what] == [
        "local: does not keep a file from being overwritten",
        "local: does not keep a file from being overwritten in parts",
        "local: does not keep a file from being overwritten by a move",
    ]
    assert [path for path in folder.rglob("*") if path.is_file()] == []


class Skewed(LocalProvider):
    """A store whose answers are dated by another clock, and which is nearly full."""

    apart_s = 0.0

    async def probe(self) -> Probe:
        return Probe("somebody", wall() - self.apart_s, used=99 * 1024**3, total=100 * 1024**3)


@pytest.mark.parametrize(
    ("apart_s", "verdict", "said"),
    [(5, "good", "clock is right"), (-100, "note", "100 s behind"), (3600, "bad", "3600 s ahead")],
)
def test_a_clock_that_is_wrong_is_said_with_its_way(
    environ: Environ, monkeypatch: pytest.MonkeyPatch, apart_s: float, verdict: str, said: str
) -> None:
    monkeypatch.setattr(Skewed, "apart_s", apart_s)
    monkeypatch.setattr("infra.commands.cloud_stores.LocalProvider", Skewed)
    findings = verdicts(environ)
    (clock,) = [one for one in findings if "clock" in one.what]
    assert (clock.verdict, said in clock.what) == (verdict, True)
    (space,) = [one for one in findings if "free" in one.what]
    assert space.verdict == "note"


def test_a_file_is_moved_once_and_the_same_call_again_says_so(
    environ: Environ, folder: Path, tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with_database = environ | {"FLEETWIRE_DATABASE_URL": database_url}
    put(environ, _file(tmp_path, b"content"), "In/a.bin")
    capsys.readouterr()
    said = []
    for _ in range(2):
        assert cloud_move.move(with_database, "In/a.bin", "Archive/", store="local", to_store=None) == 0
        said.append(json.loads(capsys.readouterr().out))
    wanted = {"store": "local", "path": "Archive/a.bin", "size": 7, "sha256": digest_of(b"content").sha256}
    assert said == [wanted, wanted]
    assert (folder / "Archive/a.bin").read_bytes() == b"content"
    assert not (folder / "In/a.bin").exists()
    put(environ, _file(tmp_path, b"another"), "In/a.bin")
    with pytest.raises(CommandFailed, match="stays where it was"):
        cloud_move.move(with_database, "In/a.bin", "Archive/a.bin", store="local", to_store="local")
    assert (folder / "In/a.bin").read_bytes() == b"another"
    with pytest.raises(CommandFailed, match="database"):
        cloud_move.move(environ, "In/a.bin", "Archive/b.bin", store="local", to_store=None)


def test_the_doctor_says_what_is_in_quarantine(environ: Environ, database_url: str) -> None:
    with_database = environ | {"FLEETWIRE_DATABASE_URL": database_url}
    assert not [one for one in verdicts(with_database) if "arrived wrong" in one.what]

    async def quarantine() -> None:
        pool = await open_pool(database_url, name="test", max_size=1)
        held = await cloud_uploads.hold(pool, UUID(int=1), "local", "a/b", digest_of(b""), lease_s=60)
        await cloud_uploads.quarantine(pool, held, "kept as .quarantine/x/b")
        await pool.close()

    asyncio.run(quarantine())
    (found,) = [one for one in verdicts(with_database) if "arrived wrong" in one.what]
    assert found.verdict == "bad"
    assert found.what.startswith("local: 1 uploads arrived wrong twice")
    assert found.what.endswith("kept as .quarantine/x/b")
