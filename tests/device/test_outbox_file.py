"""The outbox file: bounded, whole after a kill at any point, and what is damaged is set aside and not guessed at."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from device.errors import OperationInvalid, OutboxCorrupt, OutboxError, OutboxFull, OutboxLocked
from device.outbox import Change, Item, PutOff, Queued, Settled, Wait
from device.outbox_file import OutboxFile, OutboxLimits, exists
from device.results import Answer, Fault
from device.submission import Submission

READY = float("-inf")


def opened(folder: Path, **options: Any) -> OutboxFile:
    return OutboxFile(folder, "truck-7", **options)


def one(op_id: str, entity: str = "E", *, base: int | None = None, after: str | None = None) -> Submission:
    return Submission(op_id, entity, f'{{"op_id":"{op_id}","n":"ü"}}', base, after, op_id.encode())


def settle(file: OutboxFile, *settled: Settled, **change: Any) -> None:
    file.settle(Change(settled=settled, **change), Wait(), wall=1000.0, now=0.0)


def done(op_id: str, *, version: int | None = 1, entity: str = "E", base: int | None = None) -> Settled:
    status = "applied" if version is not None else "conflict"
    return Settled(op_id, entity, Answer(op_id, status, 200, version=version), base, version)


def test_what_was_added_is_there_again_in_order(tmp_path: Path) -> None:
    assert not exists(tmp_path, "truck-7")
    file = opened(tmp_path)
    for number in range(3):
        file.add(one(f"{number}", base=number or None))
    file.close()
    assert exists(tmp_path, "truck-7")
    assert (tmp_path / "truck-7.outbox").stat().st_mode & 0o777 == 0o600
    again = opened(tmp_path)
    queued, wait = again.load(0.0, 0.0)
    assert [(each.op_id, each.base, each.due) for each in queued] == [
        ("0", None, READY),
        ("1", 1, READY),
        ("2", 2, READY),
    ]
    assert wait == Wait()
    assert again.bodies(["2", "0"]) == ['{"op_id":"2","n":"ü"}', '{"op_id":"0","n":"ü"}']
    assert again.counts == (3, 3 * len('{"op_id":"0","n":"ü"}'.encode()), 0, 0)
    again.close()
    again.close()


def test_times_to_come_outlive_a_restart_and_a_clock_that_is_set_back(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.add(one("a"))
    file.settle(Change(put_off=(PutOff("a", 3, 130.0),)), Wait(2, 160.0, soft=False), wall=5000.0, now=100.0)
    file.close()
    for wall, op_due, all_due in ((5010.0, 27.0, 57.0), (9000.0, 7.0, 7.0), (10.0, 37.0, 67.0)):
        file = opened(tmp_path)
        queued, wait = file.load(wall, 7.0)
        assert (queued[0].tries, queued[0].due) == (3, op_due)
        assert wait == Wait(2, all_due, soft=False)
        file.close()


def test_a_result_takes_the_place_of_its_operation_until_it_is_taken(tmp_path: Path) -> None:
    file = opened(tmp_path)
    for op_id in ("a", "b"):
        file.add(one(op_id, base=4))
    settle(file, done("b", version=5, base=4), done("a", version=None, base=4))
    assert file.load(0.0, 0.0).queued == []
    first = file.result_after(0)
    assert first is not None
    assert (first.op_id, first.status, first.version, first.redelivered) == ("b", "applied", 5, False)
    assert first.operation == {"op_id": "b", "n": "ü", "base_version": 4}
    file.give(first.number)
    file.close()
    file = opened(tmp_path)
    again = file.result_after(0)
    assert again is not None
    assert (again.op_id, again.redelivered) == ("b", True)
    file.take(again.number)
    last = file.result_after(0)
    assert last is not None
    assert (last.op_id, last.redelivered) == ("a", False)
    file.take(last.number)
    assert file.result_after(0) is None
    assert file.counts == (0, 0, 0, 0)
    file.close()


def test_the_same_again_changes_nothing_and_another_under_its_name_is_refused(tmp_path: Path) -> None:
    file = opened(tmp_path)
    assert file.add(one("a")) is not None
    assert file.add(one("a")) is None
    settle(file, done("a"))
    assert file.add(one("a")) is None, "settled ones are remembered"
    assert file.counts[0] == 0
    with pytest.raises(OperationInvalid, match="another operation's"):
        file.add(one("a")._replace(digest=b"other"))
    file.close()


def test_what_comes_after_another_waits_for_it_or_takes_its_version_or_is_rejected(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.add(one("a"))
    assert file.add(one("b", after="a")) == Queued("b", "E", 54, None, "a")
    settle(file, done("a", version=7), based=(Item("b", 7),))
    assert file.load(0.0, 0.0).queued == [Queued("b", "E", 54, 7, None)]
    assert file.add(one("c", after="a")) == Queued("c", "E", 54, 7, None)
    settle(file, done("b", version=None))
    assert file.add(one("d", after="b")) is None
    results = [file.result_after(0), file.result_after(1), file.result_after(2)]
    assert [each.op_id if each else "" for each in results] == ["a", "b", "d"]
    assert results[2] is not None
    assert (results[2].status, results[2].http) == ("rejected", 424)
    assert results[2].error == Fault("not_sent", "not sent: b, which it was made after, had no effect")
    for after, entity, said in (("nothing", "E", "not known"), ("a", "F", "another entity")):
        with pytest.raises(OperationInvalid, match=said):
            file.add(one("x", entity, after=after))
    assert file.counts[0] == 1
    file.close()


def test_rows_and_bytes_are_bounded_and_room_comes_back(tmp_path: Path) -> None:
    size = len(one("a").body.encode())
    file = opened(tmp_path / "rows", limits=OutboxLimits(rows=2))
    file.add(one("a"))
    file.add(one("b"))
    with pytest.raises(OutboxFull, match=r"2 operations wait to be sent and 0 results to be taken"):
        file.add(one("c"))
    settle(file, done("a"))
    with pytest.raises(OutboxFull, match=r"1 operations wait to be sent and 1 results to be taken"):
        file.add(one("c"))
    file.take(1)
    assert file.add(one("c")) is not None
    file.close()
    file = opened(tmp_path / "bytes", limits=OutboxLimits(bytes=2 * size + 5))
    file.add(one("a"))
    file.add(one("b"))
    with pytest.raises(OutboxFull, match="bytes"):
        file.add(one("c"))
    before = file.is_full_of_results
    settle(file, done("a"))
    assert (before, file.is_full_of_results) == (False, True)
    file.take(1)
    assert file.add(one("c")) is not None
    file.close()


def test_only_the_last_settled_ones_are_remembered(tmp_path: Path) -> None:
    file = opened(tmp_path, limits=OutboxLimits(settled=3))
    for number in range(6):
        file.add(one(f"{number}"))
        settle(file, done(f"{number}"))
    with pytest.raises(OperationInvalid, match="not known here"):
        file.add(one("x", after="2"))
    assert file.add(one("x", after="3")) is not None
    file.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    file = opened(tmp_path)
    with pytest.raises(OutboxLocked, match=f"process {os.getpid()} runs a client of this device; stop it first"):
        opened(tmp_path)
    OutboxFile(tmp_path, "truck-8").close()
    file.close()
    opened(tmp_path).close()


@pytest.mark.parametrize("damage", ["text", "short", "page", "table"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path, damage: str) -> None:
    file = opened(tmp_path)
    for number in range(20):
        file.add(one(f"{number}", "E" * 2000))
    file.close()
    path = tmp_path / "truck-7.outbox"
    content = bytearray(path.read_bytes())
    if damage == "text":
        content[:] = b"not a database " * 400
    elif damage == "short":
        del content[6000:]
    elif damage == "page":
        content[5 * 4096 : 12 * 4096] = os.urandom(7 * 4096)
    else:
        database = sqlite3.connect(path)
        database.execute("DROP TABLE queue")
        database.close()
        content = bytearray(path.read_bytes())
    path.write_bytes(content)
    with pytest.raises(OutboxCorrupt, match=r"damaged|not an outbox"):
        opened(tmp_path, on_corrupt="raise")
    file = opened(tmp_path)
    assert file.set_aside == tmp_path / "truck-7.outbox.corrupt"
    assert file.set_aside.read_bytes()[:100] == bytes(content[:100])
    assert file.load(0.0, 0.0).queued == []
    assert file.add(one("a")) is not None
    file.close()
    path.write_bytes(b"again" * 1000)
    file = opened(tmp_path)
    assert file.set_aside == tmp_path / "truck-7.outbox.corrupt-2", "none is written over"
    file.close()


def test_a_file_of_a_newer_client_or_another_device_is_left_as_it_is(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "truck-7.outbox").rename(tmp_path / "truck-8.outbox")
    with pytest.raises(OutboxError, match="of another device"):
        OutboxFile(tmp_path, "truck-8")
    (tmp_path / "truck-8.outbox").rename(tmp_path / "truck-7.outbox")
    database = sqlite3.connect(tmp_path / "truck-7.outbox")
    database.execute("PRAGMA user_version = 2")
    database.close()
    with pytest.raises(OutboxError, match="newer client"):
        opened(tmp_path)
    assert not list(tmp_path.glob("*.corrupt*"))


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "truck-7.outbox").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutboxError, match="is a link"):
        opened(tmp_path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxError, match="cannot be kept"):
        opened(tmp_path / "file")


def test_a_disk_that_is_full_loses_nothing_that_was_there(tmp_path: Path) -> None:
    file = opened(tmp_path)
    file.add(one("a"))
    pages = file._db.execute("PRAGMA page_count").fetchone()[0]
    file._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxError, match="full"):  # noqa: PT012 - one of them does not fit
        for number in range(100):
            file.add(one(f"more {number}", "E" * 4000))
    kept = file.counts.waiting
    assert len(file.load(0.0, 0.0).queued) == kept
    file._db.execute(f"PRAGMA max_page_count = {pages + 1000}")
    assert file.add(one("b")) is not None
    file.close()
    file = opened(tmp_path)
    assert len(file.load(0.0, 0.0).queued) == kept + 1
    file.close()


KILLED = """
import sys
from pathlib import Path
from device.outbox import Change, Settled, Wait
from device.outbox_file import OutboxFile
from device.results import Answer
from device.submission import Submission

file = OutboxFile(Path(sys.argv[1]), "truck-7")
number = int(sys.argv[2])
while True:
    op_id = f"{number}"
    file.add(Submission(op_id, "E", '{"op_id":"%s"}' % op_id, None, None, op_id.encode()))
    print(f"added {op_id}", flush=True)
    if number % 3 == 0:
        first = file.load(0.0, 0.0).queued[0].op_id
        settled = Settled(first, "E", Answer(first, "applied", 200, version=1), None, 1)
        file.settle(Change(settled=(settled,)), Wait(), wall=0.0, now=0.0)
        print(f"settled {first}", flush=True)
    if number % 5 == 0 and (result := file.result_after(0)):
        file.give(result.number)
        file.take(result.number)
        print(f"taken {result.op_id}", flush=True)
    number += 1
"""


KILLED_EVERYWHERE = """
import json, os, signal, sqlite3, sys
from pathlib import Path
from device import outbox_database
from device.outbox import Change, Item, PutOff, Settled, Wait
from device.outbox_file import OutboxFile
from device.results import Answer, Fault
from device.submission import Submission

connect = sqlite3.connect

def one(op_id, after=None):
    return Submission(op_id, "E", '{"op_id":"%s"}' % op_id, None, after, op_id.encode())

def settled(op_id, version=None):
    answer = Answer(op_id, "applied" if version else "conflict", 200, version=version)
    return Settled(op_id, "E", answer, None, version)

def live(folder, say):
    file = OutboxFile(folder, "truck-7", on_corrupt="raise")
    for op_id, after in (("a", None), ("b", "a"), ("c", "b"), ("d", None)):
        file.add(one(op_id, after))
        say("added", op_id)
    file.note(Wait(1, 5.0, soft=False), wall=0.0, now=0.0)
    file.settle(
        Change((settled("a", 3),), (PutOff("d", 1, 2.0),), (Item("b", 3),)), Wait(), wall=0.0, now=0.0
    )
    say("settled", "a")
    file.give(1)
    file.take(1)
    say("taken", "a")
    file.settle(Change((settled("b"), settled("c"))), Wait(), wall=0.0, now=0.0)
    say("settled", "b")
    say("settled", "c")
    file.close()

def killed_at(statement, folder, pipe):
    def traced(*args, **options):
        db = connect(*args, **options)
        left = statement
        def count(_):
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        db.set_trace_callback(count)
        return db
    outbox_database.sqlite3.connect = traced
    live(folder, lambda what, op_id: os.write(pipe, f"{what} {op_id}\\n".encode()))

statement, ended = 0, False
while not ended:
    statement += 1
    folder = Path(sys.argv[1]) / f"{statement}"
    near, far = os.pipe()
    pid = os.fork()
    if pid == 0:
        killed_at(statement, folder, far)
        os._exit(0)
    os.close(far)
    with os.fdopen(near) as pipe:
        said = [line.split() for line in pipe.read().splitlines()]
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    file = OutboxFile(folder, "truck-7", on_corrupt="raise")
    waiting = [(each.op_id, each.base, each.after) for each in file.load(0.0, 0.0).queued]
    results, number = [], 0
    while (result := file.result_after(number)) is not None:
        results.append(result.op_id)
        number = result.number
    file.close()
    print(json.dumps({"said": said, "waiting": waiting, "results": results}))
"""


def test_killed_at_any_statement_each_operation_waits_or_has_its_result() -> None:
    # A kill, unlike a power cut, leaves memory as good as a disk.
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        command = [sys.executable, "-c", KILLED_EVERYWHERE, folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=50)
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lives) > 50
    for life in lives:
        said = {what: {op_id for said, op_id in life["said"] if said == what} for what in ("added", "settled", "taken")}
        waiting = {op_id: (base, after) for op_id, base, after in life["waiting"]}
        results = set(life["results"])
        assert not results & waiting.keys()
        gone = said["added"] - results - waiting.keys()
        assert gone <= said["settled"] & {"a"}, "nothing but what was being taken"
        assert not said["settled"] & waiting.keys()
        assert not said["taken"] & results
        if "b" in waiting:
            assert waiting["b"] == ((None, "a") if "a" in waiting else (3, None)), "its version came with the result"
        if "c" in waiting:
            assert waiting["c"] == (None, "b")
    last = lives[-1]
    assert (last["results"], [op_id for op_id, _, _ in last["waiting"]]) == (["b", "c"], ["d"])


def test_whatever_returned_has_outlived_a_kill(tmp_path: Path) -> None:
    said: dict[str, list[str]] = {"added": [], "settled": [], "taken": []}
    for round_ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(tmp_path), str(1000 * (round_ + 1))], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(20 + 7 * round_)]
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.wait()
        process.stdout.close()
        for line in lines:
            if line.endswith("\n"):
                what, op_id = line.split()
                said[what].append(op_id)
        file = opened(tmp_path, on_corrupt="raise")
        waiting = [each.op_id for each in file.load(0.0, 0.0).queued]
        results = []
        number = 0
        while (result := file.result_after(number)) is not None:
            results.append(result.op_id)
            number = result.number
        file.close()
        # One call may have been under way: done, and not said.
        assert len({*waiting, *results} - set(said["added"])) <= round_ + 1
        assert not set(waiting) & set(results), "waits or has its result"
        assert not set(said["settled"]) & set(waiting)
        assert not set(said["taken"]) & {*results, *waiting}
        gone = set(said["added"]) - set(waiting) - set(results) - set(said["taken"])
        assert len(gone) <= round_ + 1, "only what was being taken"
        assert waiting == sorted(waiting, key=int)
