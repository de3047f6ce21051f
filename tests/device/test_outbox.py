"""What is sent next and when: by example, and against a server in memory that is cut, slow, busy and killed."""

import contextlib
import json
import tempfile
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from device.outbox import BATCH_MAX_BYTES, Change, Item, Outbox, Pace, Queued, Wait
from device.outbox_file import OutboxFile
from device.results import Answer, Fault
from device.submission import Submission
from tests.device.office import Office, create, update

READY = float("-inf")
EPOCH = 1_700_000_000.0


def outbox(*queued: Queued, **options: Any) -> Outbox:
    return Outbox(Random(7), queued=queued, **options)


def one(op_id: str, entity: str | None = None, *, size: int = 100, **fields: Any) -> Queued:
    return Queued(op_id, entity or f"of {op_id}", size, **fields)


def sent(box: Outbox, now: float = 0.0, **options: Any) -> list[str]:
    batch = box.next_batch(now, **options)
    return [item.op_id for item in batch.items] if batch else []


def applied(*op_ids: str, version: int = 1) -> list[Answer]:
    return [Answer(op_id, "applied", 200, version=version) for op_id in op_ids]


def retry(op_id: str, after_s: float | None = 1.0) -> Answer:
    return Answer(op_id, "retry", 503, error=Fault("unavailable"), retry_after_s=after_s)


def conflict(op_id: str) -> Answer:
    return Answer(op_id, "conflict", 409, version=9, error=Fault("conflict"))


def test_the_oldest_go_first_a_hundred_at_a_time_and_one_batch_at_once() -> None:
    box = outbox(*(one(f"{n}") for n in range(250)))
    assert box.due == READY
    for upto in (100, 200, 250):
        batch = sent(box)
        assert batch == [f"{n}" for n in range(upto - len(batch), upto)]
        assert sent(box) == [], "one batch is under way"
        box.on_results(applied(*batch), 0.0)
    assert len(box) == 0
    assert sent(box) == []


def test_a_batch_stays_below_its_bytes_and_one_that_is_larger_goes_by_itself() -> None:
    box = outbox(one("a", size=600_000), one("b", size=400_000), one("c", size=1), one("d", size=2_000_000), one("e"))
    for batch in (["a", "b"], ["c"], ["d"], ["e"]):
        assert sent(box) == batch
        box.on_results(applied(*batch), 0.0)


def test_a_smaller_batch_may_be_asked_for() -> None:
    assert sent(outbox(one("a", size=40), one("b", size=40), one("c", size=40)), bytes_max=100) == ["a", "b"]


def test_what_is_put_off_keeps_back_only_those_of_its_entity() -> None:
    box = outbox(one("a1", "A"), one("b1", "B"), one("a2", "A"), one("b2", "B"))
    assert len(sent(box)) == 4
    change = box.on_results([retry("a1", 5.0), *applied("b1"), retry("a2"), *applied("b2")], 10.0)
    assert [each.op_id for each in change.settled] == ["b1", "b2"]
    assert [(each.op_id, each.tries) for each in change.put_off] == [("a1", 1), ("a2", 1)]
    box.add(one("c1", "C"))
    box.add(one("a3", "A"))
    assert sent(box, 10.0) == ["c1"]
    box.on_results(applied("c1"), 10.0)
    assert box.due is not None
    assert 15.0 <= box.due <= 16.25
    assert sent(box, 14.9) == []
    assert sent(box, box.due) == ["a1", "a2", "a3"]


def test_results_are_told_apart_by_op_id_and_strange_ones_change_nothing() -> None:
    box = outbox(one("a"), one("b"), one("c"))
    sent(box)
    answers = [*applied("c", "nobody"), Answer(None, "rejected", 400), *applied("a"), conflict("a")]
    change = box.on_results(answers, 0.0)
    assert [(each.op_id, each.answer.status) for each in change.settled] == [("a", "applied"), ("c", "applied")]
    assert [each.op_id for each in change.put_off] == ["b"], "no result is no result"


@pytest.mark.parametrize("status", ["deferred", "retry", ""])
def test_only_the_four_known_statuses_are_final(status: str) -> None:
    box = outbox(one("a"))
    sent(box)
    assert box.on_results([Answer("a", status, 200)], 0.0).settled == ()
    assert len(box) == 1


def test_versions_are_foreseen_within_a_batch() -> None:
    box = outbox(
        one("create", "A"), one("b", "A", after="create"), one("c", "A", after="b"), one("x", "X", base=7),
        one("y", "X", after="x"),
    )  # fmt: skip
    batch = box.next_batch(0.0)
    assert batch is not None
    assert [item.base for item in batch.items] == [None, 1, 2, 7, 8]


def test_versions_come_from_the_result_where_the_batch_ended_between() -> None:
    box = outbox(*(one(f"{n}") for n in range(99)), one("a", "A", base=3), one("b", "A", after="a"))
    batch = sent(box)
    assert (batch[-1], len(batch)) == ("a", 100)
    change = box.on_results(applied(*batch[:-1]) + applied("a", version=4), 0.0)
    assert change.based == (Item("b", 4),)
    assert box.next_batch(0.0) == ((Item("b", 4),), 100)


def test_what_comes_after_one_without_effect_is_never_sent_and_rejected() -> None:
    box = outbox(*(one(f"{n}") for n in range(97)), one("a", "A", base=3), one("b", "A", after="a"),
                 one("c", "A", after="b"), one("d", "A", after="c"), one("e", "A", base=9))  # fmt: skip
    batch = sent(box)
    assert batch[97:] == ["a", "b", "c"]
    change = box.on_results([*applied(*batch[:97]), conflict("a"), retry("b"), retry("c")], 0.0)
    settled = {each.op_id: each.answer for each in change.settled}
    assert settled["a"].status == "conflict"
    for op_id in ("b", "c", "d"):
        assert (settled[op_id].status, settled[op_id].http) == ("rejected", 424)
        assert settled[op_id].error == Fault("not_sent", "not sent: a, which it was made after, had no effect")
    assert sent(box) == ["e"], "which was made upon a version of its own"


def test_a_duplicate_that_was_rejected_the_first_time_has_no_effect() -> None:
    box = outbox(one("a", "A", base=3), one("b", "A", after="a"))
    sent(box)
    change = box.on_results([Answer("a", "duplicate", 422, error=Fault("wrong_status")), retry("b")], 0.0)
    assert [(each.op_id, each.answer.http) for each in change.settled] == [("a", 422), ("b", 424)]


def test_a_duplicate_that_was_applied_gives_its_version_on() -> None:
    box = outbox(one("a", "A", base=3))
    sent(box)
    box.add(one("b", "A", after="a"))
    box.on_results([Answer("a", "duplicate", 200, version=4)], 0.0)
    assert box.next_batch(0.0) == ((Item("b", 4),), 100)


def test_failures_wait_1_2_4_seconds_and_so_on_up_to_a_cap_each_with_jitter() -> None:
    box = Outbox(Random(3), Pace(base_s=1.0, cap_s=60.0), queued=[one("a")])
    now, waits = 0.0, []
    for _ in range(12):
        assert sent(box, now) == ["a"]
        box.on_failed(now)
        assert box.due is not None
        waits.append(box.due - now)
        now = box.due
    for number, wait in enumerate(waits):
        expected = min(60.0, 2.0**number)
        assert 0.5 * expected <= wait <= 1.5 * expected
    assert len({wait / min(60.0, 2.0**number) for number, wait in enumerate(waits)}) == 12
    sent(box, now)
    box.on_results(applied("a"), now)
    assert box.wait == Wait()


@pytest.mark.parametrize("wish", [0.0, 0.1, 3.0, 600.0, 80_000.0])
def test_a_servers_wish_is_a_lower_bound_and_not_cut_short(wish: float) -> None:
    for seed in range(20):
        box = Outbox(Random(seed), queued=[one("a")])
        sent(box)
        box.on_failed(0.0, wish_s=wish, answered=True)
        assert box.due is not None
        assert max(0.25, wish) <= box.due <= max(0.25, wish + min(60.0, wish / 4))
        box.hurry(0.0)
        assert box.due >= wish


def test_a_senseless_wish_is_none() -> None:
    for wish in (float("nan"), -1.0):
        box = outbox(one("a"))
        sent(box)
        box.on_failed(0.0, wish_s=wish, answered=True)
        assert box.due is not None
        assert 0.5 <= box.due <= 1.5


def test_the_network_that_is_back_ends_a_wait_of_our_own_accord() -> None:
    box = outbox(one("a"))
    for _ in range(6):
        assert sent(box, 1000.0) == ["a"]
        box.on_failed(1000.0)
        box.hurry(1000.0)
    sent(box, 1000.0)
    box.on_failed(1000.0, answered=True)
    box.hurry(1000.0)
    assert box.due is not None
    assert box.due > 1030.0, "it was answered: the network is not what is in the way"


def test_a_server_with_its_hands_full_is_not_sent_the_next_batch_at_once() -> None:
    box = outbox(*(one(f"{n}") for n in range(150)))
    batch = sent(box)
    box.on_results([retry(op_id, 2.0) for op_id in batch], 0.0)
    assert box.due is not None
    assert box.due >= 2.0


def test_a_large_batch_that_was_cut_comes_again_in_smaller_ones() -> None:
    box = outbox(*(one(f"{n}", size=60_000) for n in range(30)))
    assert len(sent(box)) == BATCH_MAX_BYTES // 60_000
    counts, now = [], 0.0
    for _ in range(6):
        box.on_failed(now)
        assert box.due is not None
        now = box.due
        counts.append(len(sent(box, now)))
    assert counts == [8, 4, 2, 1, 1, 1]
    while len(box):
        batch = box.under_way
        assert batch is not None
        box.on_results(applied(*(item.op_id for item in batch.items)), now)
        counts.append(len(sent(box, now)))
    assert max(counts[6:]) > 8, "and in larger ones when they come through"


def test_one_that_the_server_cannot_read_is_found_and_harms_no_other() -> None:
    box = outbox(*(one(f"{n}") for n in range(20)), one("after bad", "of 13", after="13"))
    done: dict[str, Answer] = {}
    now = 0.0
    for _ in range(60):
        if not len(box):
            break
        assert box.due is not None
        now = max(now, box.due)
        batch = sent(box, now)
        if "13" in batch:
            change = box.on_refused(400, Fault("invalid-body", "what is that"), now)
        else:
            change = box.on_results(applied(*batch), now)
        done |= {each.op_id: each.answer for each in change.settled}
    assert len(done) == 21
    assert {op_id for op_id, answer in done.items() if not answer.has_effect} == {"13", "after bad"}
    assert (done["13"].http, done["13"].error) == (400, Fault("invalid-body", "what is that"))
    assert done["after bad"].http == 424


def test_a_process_that_dies_of_each_answer_asks_less_and_less_often() -> None:
    wait = Wait()
    now, dues = 0.0, []
    for _ in range(8):
        box = outbox(one("a"), wait=wait)
        assert box.due is not None
        now = max(now, box.due)
        sent(box, now)
        wait = box.while_under_way(now)
        dues.append(wait.due - now)
    assert all(0.5 * 2**n <= due <= 1.5 * 2**n for n, due in enumerate(dues[:6]))


def test_without_room_for_results_nothing_is_sent() -> None:
    box = outbox(one("a"))
    box.hold(True)
    assert box.due is None
    assert sent(box) == []
    box.hold(False)
    assert sent(box) == ["a"]


class Life(RuleBasedStateMachine):
    """Devices' operations through every kind of trouble, with the file's rows as a plain model."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.rand = Random(seed)
        self.office = Office()
        self.rows: dict[str, tuple[dict[str, Any], int | None, str | None]] = {}  # operation, base, after
        self.submitted: dict[str, list[str]] = {}  # of an entity, in order
        self.chained: dict[str, str] = {}
        self.results: dict[str, Answer] = {}
        self.disturbed: set[str] = set()  # entities whose operations may conflict
        self.wait = Wait()
        self.now = 0.0
        self.number = 0
        self.box = Outbox(self.rand)
        self._open()

    def _open(self) -> None:
        """Where rows are kept besides."""

    def _id(self) -> str:
        self.number += 1
        return f"00000000-0000-7000-8000-{self.number:012x}"

    def _add(self, operation: dict[str, Any], base: int | None, after: str | None) -> str:
        op_id = self._id()
        entity = operation["entity_id"]
        self.rows[op_id] = {**operation, "op_id": op_id}, base, after
        self.submitted.setdefault(entity, []).append(op_id)
        if after is not None:
            self.chained[op_id] = after
        self.box.add(Queued(op_id, entity, 300, base, after))
        return op_id

    @rule(chain=st.integers(0, 130))
    def create_and_change(self, chain: int) -> None:
        entity = self._id()
        last = self._add(create(entity), None, None)
        for number in range(chain):
            last = self._add(update(entity, {"n": number}), None, last)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data(), base=st.integers(1, 4))
    def change(self, data: st.DataObject, base: int) -> None:
        entity = data.draw(st.sampled_from(sorted(self.submitted)))
        last = self.submitted[entity][-1]
        if last in self.rows and self.rand.random() < 0.7:
            self._add(update(entity), None, last)
        else:
            self.disturbed.add(entity)
            self._add(update(entity), base, None)

    @precondition(lambda self: self.office.entities)
    @rule(data=st.data())
    def somebody_else_changes(self, data: st.DataObject) -> None:
        entity = data.draw(st.sampled_from(sorted(self.office.entities)))
        self.disturbed.add(entity)
        self.office.other_changes(entity)

    @precondition(lambda self: self.submitted)
    @rule(data=st.data())
    def somebody_locks(self, data: st.DataObject) -> None:
        self.office.busy.add(data.draw(st.sampled_from(sorted(self.submitted))))

    def _send(self) -> list[dict[str, Any]] | None:
        """What the server answers."""
        due = self.box.due
        if due is None:
            return None
        assert due <= self.now or not self.box.next_batch(self.now), "nothing goes before its time"
        self.now = max(self.now, due)
        batch = self.box.next_batch(self.now)
        assert batch is not None, "what is due is there"
        assert len(batch.items) <= 100
        assert batch.size <= BATCH_MAX_BYTES
        self.wait = self.box.while_under_way(self.now)
        body = []
        for op_id, base in batch.items:
            body.append({**self.rows[op_id][0], **({} if base is None else {"base_version": base})})
        return self.office.apply("", body)

    def _write(self, change: Change) -> None:
        for op_id, _, answer, _, _ in change.settled:
            assert op_id not in self.results, "each has one result"
            self.results[op_id] = answer
            del self.rows[op_id]
        for op_id, base in change.based:
            operation, _, _ = self.rows[op_id]
            self.rows[op_id] = operation, base, None
        self.wait = self.box.wait

    @rule()
    def answered(self) -> None:
        if (results := self._send()) is not None:
            answers = [
                Answer(each["op_id"], each["status"], each["http"], version=each.get("version"),
                       error=Fault(**each["error"]) if "error" in each else None,
                       retry_after_s=each.get("retry_after_s"))
                for each in results
            ]  # fmt: skip
            self._write(self.box.on_results(answers, self.now))

    @rule()
    def cut_before_the_answer(self) -> None:
        if self._send() is not None:
            self.box.on_failed(self.now)
            self.wait = self.box.wait

    @rule(wish=st.floats(0, 100))
    def told_to_come_later(self, wish: float) -> None:
        if (due := self.box.due) is not None:
            self.now = max(self.now, due)
            self.box.next_batch(self.now)
            self.box.on_failed(self.now, wish_s=wish, answered=True)
            self.wait = self.box.wait
            assert self.wait.due >= self.now + wish

    @rule(under_way=st.booleans())
    def killed(self, under_way: bool) -> None:
        if under_way:
            self._send()
        self.box = Outbox(self.rand, queued=self._restored(), wait=self.wait)

    def _restored(self) -> list[Queued]:
        """What a new process finds. That operations were put off is not in the plain model's rows."""
        return [
            Queued(op_id, operation["entity_id"], 300, base, after)
            for op_id, (operation, base, after) in self.rows.items()
        ]

    @rule()
    def the_network_is_back(self) -> None:
        self.box.hurry(self.now)

    @invariant()
    def what_waits_is_what_is_kept(self) -> None:
        if hasattr(self, "box"):
            assert list(self.box._queued) == list(self.rows)

    def teardown(self) -> None:
        if not hasattr(self, "box"):
            return
        for _ in range(2000):
            if not self.rows:
                break
            self.answered()
        assert not self.rows, "everything is settled in the end"
        assert self.results.keys() == {op_id for ids in self.submitted.values() for op_id in ids}
        effects = self.office.applied
        assert len(effects) == len(set(effects)), "nothing is applied twice"
        told = {op_id for op_id, answer in self.results.items() if answer.has_effect}
        assert told == set(effects), "what was applied is told, and nothing else"
        places = {op_id: place for place, op_id in enumerate(effects)}
        for ids in self.submitted.values():
            order = [places[op_id] for op_id in ids if op_id in places]
            assert order == sorted(order), "operations on one entity do not overtake each other"
        for entity, ids in self.submitted.items():
            assert entity in self.disturbed or told >= set(ids), "what nobody disturbs is done"
        for op_id, after in self.chained.items():
            if op_id in told:
                assert after in told, "nothing is done upon what was not done"
        for op_id, answer in self.results.items():
            assert answer.error is None or answer.error.code != "key_reused", f"{op_id} was sent again as another"


class LifeOnDisk(Life):
    """The same with the file itself: what is in memory is what a process finds that is started at that moment."""

    def _open(self) -> None:
        place = "/dev/shm" if Path("/dev/shm").is_dir() else None
        self.folder = tempfile.TemporaryDirectory(dir=place)
        self.file = OutboxFile(Path(self.folder.name), "truck-7")

    def _add(self, operation: dict[str, Any], base: int | None, after: str | None) -> str:
        op_id = super()._add(operation, base, after)
        body = json.dumps(self.rows[op_id][0])
        self.file.add(Submission(op_id, operation["entity_id"], body, base, after, op_id.encode()))
        return op_id

    def _restored(self) -> list[Queued]:
        return list(self.file.load(EPOCH + self.now, self.now).queued)

    def _write(self, change: Change) -> None:
        super()._write(change)
        self.file.settle(change, self.wait, wall=EPOCH + self.now, now=self.now)

    @rule()
    def kept_is_what_is_known(self) -> None:
        if self.box.under_way is not None:
            return
        queued, wait = self.file.load(EPOCH + self.now, self.now)
        known = self.box._queued.values()
        assert [(one.op_id, one.entity_id, one.base, one.after) for one in queued] == [
            (one.op_id, one.entity_id, one.base, one.after) for one in known
        ]
        # What is over is not kept as a time.
        assert [max(one.due, self.now) for one in queued] == pytest.approx([max(one.due, self.now) for one in known])
        if self.written:
            assert max(wait.due, self.now) == pytest.approx(max(self.written.due, self.now))
        assert self.file.counts == self.file._counted()

    @property
    def written(self) -> Wait | None:
        kept = self.file._db.execute("SELECT tries FROM wait").fetchone()
        return self.wait if kept and kept[0] == self.wait.tries else None

    def teardown(self) -> None:
        if not hasattr(self, "file"):
            return
        with self.folder, contextlib.closing(self.file):
            super().teardown()
            results = []
            while (result := self.file.result_after(0)) is not None:
                results.append(result.op_id)
                self.file.take(result.number)
            assert sorted(results) == sorted(self.results)
            assert self.file.counts == (0, 0, 0, 0)


Life.TestCase.settings = settings(
    max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLife = Life.TestCase
LifeOnDisk.TestCase.settings = settings(Life.TestCase.settings, max_examples=10)
TestLifeOnDisk = LifeOnDisk.TestCase


@given(seed=st.integers(0, 2**32), tries=st.integers(0, 5000))
@settings(max_examples=50, deadline=None)
def test_no_number_of_tries_waits_for_longer_than_the_cap(seed: int, tries: int) -> None:
    box = Outbox(Random(seed), queued=[one("a")], wait=Wait(tries, READY))
    sent(box)
    box.on_failed(0.0)
    assert box.due is not None
    assert box.due <= 90.0
