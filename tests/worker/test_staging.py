import os
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import pytest

from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.local_provider import LocalProvider
from shared.cloud.threads import FileThreads
from shared.store.jobs import Claimed
from worker.errors import AttemptFailed, Outage, PermanentFailure
from worker.handlers.contract import Answer
from worker.staging import stage


@pytest.fixture
async def threads() -> AsyncIterator[FileThreads]:
    opened = FileThreads(2)
    yield opened
    await opened.close()


def request(tmp_path: Path, content: bytes, path: str = "Requests/d1/a.bin") -> Claimed:
    """A job for a file with this content, and the file."""
    target = tmp_path / "cloud" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return Claimed(
        uuid4(), "unknown", "d1", "local", path, "a.bin", len(content), sha256(content).hexdigest(), None, 1, 1, 60.0,
        0.0, uuid4(), "Responses/d1/a.x",
    )  # fmt: skip


async def put(
    store: LocalProvider, job: Claimed, tmp_path: Path, threads: FileThreads, limit: int = 10**9
) -> Answer | None:
    return await stage(store, job, tmp_path / "copy", threads, max_bytes=limit)


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
async def test_the_file_that_was_announced_is_copied(
    store: LocalProvider, tmp_path: Path, threads: FileThreads, size: int
) -> None:
    content = os.urandom(size)
    assert await put(store, request(tmp_path, content), tmp_path, threads) is None
    assert (tmp_path / "copy").read_bytes() == content


async def test_a_file_of_the_same_size_and_other_content_has_changed(
    store: LocalProvider, tmp_path: Path, threads: FileThreads
) -> None:
    job = request(tmp_path, b"before")
    (tmp_path / "cloud" / job.path).write_bytes(b"after!")
    answer = await put(store, job, tmp_path, threads)
    assert answer is not None
    assert answer.outcome == "changed"


async def test_a_large_file_is_not_even_opened(store: LocalProvider, tmp_path: Path, threads: FileThreads) -> None:
    job = request(tmp_path, b"x" * 100)
    (tmp_path / "cloud" / job.path).unlink()
    answer = await put(store, job, tmp_path, threads, limit=99)
    assert answer is not None
    assert (answer.outcome, answer.detail) == ("too_large", "the file has 100 bytes; at most 99 are processed")


async def test_a_file_that_is_gone_or_no_file_any_more_is_answered(
    store: LocalProvider, tmp_path: Path, threads: FileThreads
) -> None:
    job = request(tmp_path, b"x")
    (tmp_path / "cloud" / job.path).unlink()
    gone = await put(store, job, tmp_path, threads)
    (tmp_path / "cloud" / job.path).mkdir()
    folder = await put(store, job, tmp_path, threads)
    assert gone is not None
    assert folder is not None
    assert (gone.outcome, folder.outcome) == ("removed", "changed")


async def test_a_path_that_leads_out_of_the_store_is_never_opened(
    store: LocalProvider, tmp_path: Path, threads: FileThreads
) -> None:
    job = request(tmp_path, b"x")._replace(path="Requests/../../secret")
    with pytest.raises(PermanentFailure):
        await put(store, job, tmp_path, threads)


async def test_a_disk_that_does_not_take_the_copy_fails_the_attempt(
    store: LocalProvider, tmp_path: Path, threads: FileThreads
) -> None:
    with pytest.raises(AttemptFailed):
        await stage(store, request(tmp_path, b"x"), tmp_path / "no" / "folder", threads, max_bytes=10)


@pytest.mark.parametrize("error", [StoreUnavailable("down"), Misconfigured("the key ran out")])
async def test_a_store_that_cannot_be_read_is_no_fault_of_the_job(
    store: LocalProvider, tmp_path: Path, threads: FileThreads, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(path: str, *, object_id: str | None = None) -> None:
        raise error

    monkeypatch.setattr(store, "open", refuse)
    with pytest.raises(Outage):
        await put(store, request(tmp_path, b"x"), tmp_path, threads)
