from pathlib import Path
from uuid import uuid4

import pytest

from shared.cloud.errors import StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.local import LocalStore
from shared.cloud.store import Existed, Source, Stored
from shared.store.jobs import Claimed
from worker.errors import AttemptFailed, LeaseLost, PermanentFailure
from worker.handlers.contract import Answer, ResponseFile
from worker.response_document import RequestPart, ResponseDocument, document_of, encode
from worker.response_writer import ResponseWriter

JOB_ID = uuid4()


def claimed(token: int = 1) -> Claimed:
    return Claimed(
        JOB_ID, "table", "d1", "local", "Requests/d1/a.csv", "a.csv", 3, "0" * 64, None, token, token, 60.0, 0.0,
        uuid4(), f"Responses/d1/a.{JOB_ID}",
    )  # fmt: skip


class Attempt:
    """An attempt whose handler wrote `content` into result.txt."""

    def __init__(self, store: LocalStore, folder: Path, content: str, token: int) -> None:
        self.folder = folder / f"out-{token}"
        self.folder.mkdir()
        (self.folder / "result.txt").write_text(content)
        (self.folder / "same.txt").write_text("same")
        self.lost = False
        self.job = claimed(token)
        self.writer = ResponseWriter(store, self.still_ours)

    def still_ours(self, job: Claimed) -> None:
        if self.lost:
            raise LeaseLost

    async def put(self) -> ResponseDocument:
        answer = Answer(
            "processed", files=(ResponseFile("result.txt", "text/plain"), ResponseFile("same.txt", "text/plain"))
        )
        files = await self.writer.put_files(self.job, answer.files, self.folder)
        return document_of(
            job_id=JOB_ID, device_id="d1", request=RequestPart("a.csv", 3, "0" * 64), handler="t", answer=answer,
            files=files, finished_at=f"attempt {self.job.lease_token}",
        )  # fmt: skip


def folder_of(tmp_path: Path) -> Path:
    return tmp_path / "cloud" / "Responses" / "d1" / f"a.{JOB_ID}"


async def test_a_response_is_written_and_found_again(store: LocalStore, tmp_path: Path) -> None:
    first = Attempt(store, tmp_path, "one", 1)
    assert await first.writer.find(first.job) is None
    document = await first.put()
    assert not (folder_of(tmp_path) / "response.json").exists()
    committed = await first.writer.commit(first.job, document)
    assert committed.document == document
    assert committed.digest == digest_of((folder_of(tmp_path) / "response.json").read_bytes())
    again = await first.writer.find(claimed(2))
    assert again == committed


async def test_an_attempt_after_a_crash_adopts_files_and_names_others_anew(store: LocalStore, tmp_path: Path) -> None:
    await Attempt(store, tmp_path, "one", 1).put()
    second = Attempt(store, tmp_path, "two", 2)
    committed = await second.writer.commit(second.job, await second.put())
    assert [file.name for file in committed.document.files] == ["result.t2.txt", "same.txt"]
    assert (folder_of(tmp_path) / "result.txt").read_text() == "one"
    assert (folder_of(tmp_path) / "result.t2.txt").read_text() == "two"
    assert await second.writer.find(claimed(3)) == committed


async def test_of_two_attempts_at_once_one_makes_the_response_and_the_other_takes_it(
    store: LocalStore, tmp_path: Path
) -> None:
    slow, quick = Attempt(store, tmp_path, "slow", 1), Attempt(store, tmp_path, "quick", 2)
    slow_document, quick_document = await slow.put(), await quick.put()
    won = await quick.writer.commit(quick.job, quick_document)
    late = await slow.writer.commit(slow.job, slow_document)
    assert late == won
    assert won.document.finished_at == "attempt 2"


async def test_committing_twice_is_one_commit(store: LocalStore, tmp_path: Path) -> None:
    one = Attempt(store, tmp_path, "one", 1)
    document = await one.put()
    assert await one.writer.commit(one.job, document) == await one.writer.commit(one.job, document)


async def test_nothing_more_is_written_once_the_lease_is_lost(store: LocalStore, tmp_path: Path) -> None:
    one = Attempt(store, tmp_path, "one", 1)
    document = await one.put()
    one.lost = True
    with pytest.raises(LeaseLost):
        await one.writer.commit(one.job, document)
    with pytest.raises(LeaseLost):
        await one.put()
    assert not (folder_of(tmp_path) / "response.json").exists()


@pytest.mark.parametrize(
    "what", ["garbage", "other job", "traversal", "missing file", "altered file", "folder", "huge"]
)
async def test_a_document_that_is_not_ours_is_refused(store: LocalStore, tmp_path: Path, what: str) -> None:
    one = Attempt(store, tmp_path, "one", 1)
    document = await one.put()
    folder = folder_of(tmp_path)
    text = encode(document)
    match what:
        case "garbage":
            text = b'{"job_id": 1}'
        case "other job":
            text = text.replace(str(JOB_ID).encode(), str(uuid4()).encode())
        case "traversal":
            text = text.replace(b"same.txt", b"../../x")
        case "missing file":
            (folder / "same.txt").unlink()
        case "altered file":
            (folder / "same.txt").write_text("SAME")
        case "huge":
            text += b" " * 1_000_000
    if what == "folder":
        (folder / "response.json").mkdir()
    else:
        (folder / "response.json").write_bytes(text)
    with pytest.raises(PermanentFailure, match="in the way"):
        await one.writer.find(claimed(2))


async def test_a_name_taken_by_a_folder_is_not_used(store: LocalStore, tmp_path: Path) -> None:
    (folder_of(tmp_path) / "result.txt").mkdir(parents=True)
    document = await Attempt(store, tmp_path, "one", 1).put()
    assert document.files[0].name == "result.t1.txt"


class FullStore(LocalStore):
    """Has no room for files called same.txt."""

    async def put_new(self, path: str, source: Source, *, expect: object = None) -> Stored | Existed:
        if path.endswith("same.txt"):
            raise StoreUnavailable("no space left")
        return await super().put_new(path, source)


async def test_a_store_that_fails_fails_the_attempt(tmp_path: Path, store: LocalStore) -> None:
    full = FullStore(tmp_path / "cloud", tmp_path / "cloud-tmp")
    try:
        one = Attempt(full, tmp_path, "one", 1)
        with pytest.raises(AttemptFailed, match="no space"):
            await one.put()
    finally:
        await full.close()
