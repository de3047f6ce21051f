"""The position file: locked, whole, and never ahead of or silent about what happened. One test kills real processes."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.errors import PositionFileCorrupt, PositionFileError, PositionFileLocked
from device.position_file import PositionFile
from device.seen import SEEN_MAX, InProgress, SeenEvent
from shared.protocol.position import Position

REWRITE_AT = 1024 * 1024


def fp(number: int) -> str:
    return f"{number:016x}"


def add(file: PositionFile, seq: int) -> None:
    file.started(Position(1, seq), fp(seq))
    file.finished(Position(1, seq), fp(seq))


def reopened(folder: Path) -> PositionFile:
    file = PositionFile(folder, "truck-7", on_corrupt="raise")
    file.close()
    return file


def journal(folder: Path) -> Path:
    return folder / "truck-7.position"


def test_what_was_recorded_is_there_again(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "truck-7")
    assert file.position is None
    for seq in range(1, 4):
        file.started(Position(1, seq), fp(seq))
        file.finished(Position(1, seq), fp(seq))
    file.started(Position(1, 4), fp(4))
    file.close()
    again = reopened(tmp_path)
    assert again.position == Position(1, 3)
    assert list(again.begun) == [InProgress(Position(1, 4), fp(4))]
    assert list(again.seen) == [SeenEvent(1, fp(seq)) for seq in range(1, 4)]


def test_a_reset_keeps_what_was_seen_and_begun(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "truck-7")
    file.finished(Position(1, 9), fp(9))
    file.started(Position(1, 10), fp(10))
    file.reset(Position(2, 4))
    file.close()
    again = reopened(tmp_path)
    assert again.position == Position(2, 4)
    assert list(again.begun) == [InProgress(Position(1, 10), fp(10))]
    assert list(again.seen) == [SeenEvent(1, fp(9))]


def test_the_file_stays_small_and_remembers_the_last_4096(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "truck-7")
    largest = 0
    for seq in range(1, 30_001):
        add(file, seq)
        if seq % 16 == 0:
            file.sync()
            largest = max(largest, journal(tmp_path).stat().st_size)
    assert largest < 1024 * 1024
    file.close()
    again = reopened(tmp_path)
    assert again.position == Position(1, 30_000)
    assert list(again.seen) == [SeenEvent(1, fp(seq)) for seq in range(30_001 - SEEN_MAX, 30_001)]


def test_the_file_stays_bounded_where_nobody_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("device.position_file._REWRITE_AT_ONCE", 2 * REWRITE_AT)
    file = PositionFile(tmp_path, "truck-7")
    for seq in range(1, 30_001):
        add(file, seq)
    assert journal(tmp_path).stat().st_size < 2 * REWRITE_AT + 100
    file.close()
    assert reopened(tmp_path).position == Position(1, 30_000)


def test_the_rewrite_waits_for_the_disk_only_in_the_thread_that_syncs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("device.position_file._REWRITE_AT", 10_000)
    waiting: set[int] = set()
    real = os.fsync

    def fsync(fd: int) -> None:
        waiting.add(threading.get_ident())
        real(fd)

    file = PositionFile(tmp_path, "truck-7")
    monkeypatch.setattr(os, "fsync", fsync)
    for seq in range(1, 200):
        add(file, seq)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(file.sync).result(10)
        thread = pool.submit(threading.get_ident).result(10)
    assert waiting == {thread}
    assert not file.dirty
    assert b"S 1:1 " not in journal(tmp_path).read_bytes(), "it was rewritten"
    file.close()


def test_lines_that_are_added_during_a_rewrite_are_in_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the rewrite is waiting for, adding a line does not wait for it."""
    monkeypatch.setattr("device.position_file._REWRITE_AT", 10_000)
    file = PositionFile(tmp_path, "truck-7")
    for seq in range(1, 200):
        add(file, seq)
    real = os.fsync
    copies: list[bytes] = []
    seqs = iter(range(200, 300))

    def slow(fd: int) -> None:
        real(fd)
        copies.append(journal(tmp_path).read_bytes())
        adding = threading.Thread(target=add, args=(file, next(seqs)))
        adding.start()
        adding.join(10)
        assert not adding.is_alive()

    monkeypatch.setattr(os, "fsync", slow)
    file.sync()
    monkeypatch.setattr(os, "fsync", real)
    assert file.dirty, "a line that came after the swap has its own turn"
    copies.append(journal(tmp_path).read_bytes())
    file.close()
    newest = next(seqs) - 1
    assert reopened(tmp_path).position == Position(1, newest)
    assert newest >= 202
    # A device that is switched off at any of these moments finds a whole file.
    for copy, position in zip(copies, range(199, newest + 1), strict=True):
        journal(tmp_path).write_bytes(copy)
        assert reopened(tmp_path).position == Position(1, position)


def test_a_thread_that_syncs_and_a_loop_that_adds_do_not_meet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that closes the descriptor under a sync would make it fail, or sync a file that took its number."""
    monkeypatch.setattr("device.position_file._REWRITE_AT", 3_000)
    monkeypatch.setattr("device.position_file._REWRITE_AT_ONCE", 6_000)
    monkeypatch.setattr("device.seen.SEEN_MAX", 4)
    monkeypatch.setattr(os, "fsync", os.fstat)  # the disk's time would hide the race
    file = PositionFile(tmp_path, "truck-7")
    added = threading.Event()

    def syncing() -> int:
        count = 0
        while not added.is_set():
            file.sync()
            count += 1
        return count

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(syncing)
            try:
                for seq in range(1, 6000):
                    add(file, seq)
            finally:
                added.set()
            assert other.result(10) > 0
    finally:
        sys.setswitchinterval(interval)
    file.close()
    assert reopened(tmp_path).position == Position(1, 5999)


def test_after_a_sync_that_failed_nothing_is_said_to_be_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second fsync passes over in silence what the first one could not write."""
    file = PositionFile(tmp_path, "truck-7")
    add(file, 1)
    real = os.fsync

    def failing(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(PositionFileError, match="Input/output"):
        file.sync()
    monkeypatch.setattr(os, "fsync", real)
    with pytest.raises(PositionFileError, match="earlier sync"):
        file.sync()
    with pytest.raises(PositionFileError, match="earlier write"):
        add(file, 2)
    file.close()
    assert reopened(tmp_path).position == Position(1, 1)


def test_two_clients_of_one_device_do_not_run(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "truck-7")
    with pytest.raises(PositionFileLocked, match=f"process {os.getpid()}"):
        PositionFile(tmp_path, "truck-7")
    PositionFile(tmp_path, "truck-8").close()
    file.close()
    PositionFile(tmp_path, "truck-7").close()


def test_a_file_that_was_refused_is_not_left_locked(tmp_path: Path) -> None:
    journal(tmp_path).write_bytes(b"x\n")
    for _ in range(2):
        with pytest.raises(PositionFileCorrupt):
            PositionFile(tmp_path, "truck-7", on_corrupt="raise")


def filled(folder: Path) -> bytes:
    file = PositionFile(folder, "truck-7")
    for seq in range(1, 21):
        file.started(Position(1, seq), fp(seq))
        file.finished(Position(1, seq), fp(seq))
    file.close()
    return journal(folder).read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return filled(tmp_path_factory.mktemp("position"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_cut_end_only_takes_back(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever a power cut leaves of the last lines: an older position, or a clear word; never a newer one."""
    folder = tmp_path_factory.mktemp("cut")
    cut = data.draw(st.integers(0, len(content) - 1))
    tail = data.draw(st.sampled_from([b"", b"\0" * 64, b"garbage\n\n\xff"]))
    journal(folder).write_bytes(content[:cut] + tail)
    complete = content[:cut].count(b"F 1:") if cut == 0 or content[cut - 1 : cut] == b"\n" else None
    try:
        again = reopened(folder)
    except PositionFileCorrupt:
        assert content[:cut].count(b"\n") < 1, "only a file without its first line is beyond reading"
        return
    assert again.position is None or Position(1, 0) < again.position <= Position(1, 20)
    if complete is not None:
        assert (again.position.seq if again.position else 0) == complete


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_in_the_middle_is_never_guessed_at(
    data: st.DataObject, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("damage")
    last_line = content.rstrip(b"\n").rfind(b"\n") + 1
    at = data.draw(st.integers(0, last_line - 2))
    changed = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[at]))
    journal(folder).write_bytes(content[:at] + bytes([changed]) + content[at + 1 :])
    with pytest.raises(PositionFileCorrupt, match="Move it away"):
        PositionFile(folder, "truck-7", on_corrupt="raise")
    file = PositionFile(folder, "truck-7")
    assert (file.position, file.lost, file.set_aside) == (None, True, folder / "truck-7.position.corrupt")
    file.close()
    assert reopened(folder).lost, "still lost until a new position is known"


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 4096, b"x" * 100, os.urandom(5000)])
def test_a_file_that_never_was_one_is_set_aside(content: bytes, tmp_path: Path) -> None:
    journal(tmp_path).write_bytes(content)
    file = PositionFile(tmp_path, "truck-7")
    assert file.lost
    assert (tmp_path / "truck-7.position.corrupt").read_bytes() == content
    file.finished(Position(1, 5), fp(5))
    file.close()
    assert not reopened(tmp_path).lost


def test_the_file_of_another_device_is_not_believed(tmp_path: Path) -> None:
    PositionFile(tmp_path, "truck-8").close()
    (tmp_path / "truck-8.position").rename(journal(tmp_path))
    with pytest.raises(PositionFileCorrupt, match="another device"):
        PositionFile(tmp_path, "truck-7", on_corrupt="raise")


def test_a_file_larger_than_ours_is_not_read_in(tmp_path: Path) -> None:
    with journal(tmp_path).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(PositionFileCorrupt, match="larger"):
        PositionFile(tmp_path, "truck-7", on_corrupt="raise")


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "secret"
    target.write_text("keep")
    journal(tmp_path).symlink_to(target)
    with pytest.raises(PositionFileError):
        PositionFile(tmp_path, "truck-7")
    assert target.read_text() == "keep"


def test_a_full_disk_is_said_and_nothing_more_is_written() -> None:
    """/dev/full takes no byte; the file is put in the place of the open one."""
    folder = Path("/dev/shm") / f"fleetwire-position-{os.getpid()}"
    file = PositionFile(folder, "truck-7")
    try:
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, file._fd)
        os.close(full)
        with pytest.raises(PositionFileError, match="No space left"):
            file.finished(Position(1, 1), fp(1))
        with pytest.raises(PositionFileError, match="earlier write"):
            file.started(Position(1, 2), fp(2))
        file.close()
        assert reopened(folder).position is None
    finally:
        for left in folder.iterdir():
            left.unlink()
        folder.rmdir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PositionFileError, match="file"):
        PositionFile(tmp_path / "file" / "state", "truck-7")


def test_sync_covers_what_was_written_before_it(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "truck-7")
    dirty = [file.dirty]
    file.finished(Position(1, 1), fp(1))
    dirty.append(file.dirty)
    file.sync()
    dirty.append(file.dirty)
    assert dirty == [False, True, False]
    file.close()
    file.close()
    with pytest.raises(PositionFileError):
        file.finished(Position(1, 2), fp(2))


WRITER = """
import sys
from pathlib import Path
from device.position_file import PositionFile
from shared.protocol.position import Position

file = PositionFile(Path(sys.argv[1]), "truck-7", on_corrupt="raise")
seq = file.position.seq if file.position else 0
while True:
    seq += 1
    file.started(Position(1, seq), f"{seq:016x}")
    print("S", seq, flush=True)
    file.finished(Position(1, seq), f"{seq:016x}")
    if seq % 50 == 0:
        file.sync()
    print("F", seq, flush=True)
"""


def test_killed_at_any_moment_it_knows_what_was_finished_and_what_was_begun(tmp_path: Path) -> None:
    said_finished = 0
    for round_ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        assert process.stdout is not None
        lines: list[str] = []
        for line in process.stdout:
            lines.append(line)
            if len(lines) >= 40 + 57 * round_:
                break
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
        process.stdout.close()
        assert process.wait(10) == -signal.SIGKILL
        if not lines[-1].endswith("\n"):
            lines.pop()
        begun, finished = (
            max((int(line.split()[1]) for line in lines if line[0] == kind), default=said_finished) for kind in "SF"
        )
        file = PositionFile(tmp_path, "truck-7", on_corrupt="raise")
        assert file.position is not None
        # What the process said happened before it was said, and at most one step further went on unsaid.
        assert finished <= file.position.seq <= max(begun, finished) + 1
        assert all(mark.position.seq == file.position.seq + 1 for mark in file.begun)
        if begun > file.position.seq:
            assert [mark.position.seq for mark in file.begun] == [begun]
        said_finished = file.position.seq
        file.close()
