"""What is sent next of the operations that wait on this device, when, and what an answer to it means.

Pure. Oldest first; operations on one entity never overtake each other, and one that is put off keeps back only those
behind it. One batch is under way at a time. Sending the same operation again is harmless (its `op_id` is its key), so
whenever it is not known what became of a batch, it is sent again.

An operation may be made `after` another one that waits itself, upon a version that nobody knows yet. Each operation
that is applied raises its entity's version by exactly one, so the version is foreseen when both go in one batch, where
the server stops the later one if the earlier one fails, and else taken from the result of the earlier one. Both give
the same number: an operation that is sent again says the same as the first time. If the earlier one has no effect,
those after it are never sent and are rejected here.
Example: create A · update B after A · submit C after B are sent as A, B on version 1, C on version 2.

When it is sent: at once after an answer; when the server names a time, then and a little later; else after 1, 2, 4 … s
on average, each half as long up to half as long again. A wait that the server did not ask for is cut short when the
network is back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from device.results import Answer, Fault

if TYPE_CHECKING:
    from random import Random

__all__ = ["NEVER_SENT", "Batch", "Change", "Item", "Outbox", "Pace", "PutOff", "Queued", "Settled", "Wait"]

BATCH_MAX: Final = 100
BATCH_MAX_BYTES: Final = 1_000_000  # the server takes 1 MiB with what is around it
BATCH_LEAST_BYTES: Final = 16 * 1024
REFUSALS_MAX: Final = 3
NEVER_SENT: Final = "not_sent"
_READY: Final = float("-inf")


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds: the first wait after a failure, the longest, the longest that a server may ask for, and how far devices
    that were asked to wait are spread."""

    base_s: float = 1.0
    cap_s: float = 60.0
    wish_max_s: float = 90_000.0
    spread_max_s: float = 60.0


@dataclass(slots=True)
class Queued:
    """An operation that waits. `base` is the version it is made upon, if it is known; `size` is what it takes in a
    batch at most."""

    op_id: str
    entity_id: str
    size: int
    base: int | None = None
    after: str | None = None
    tries: int = 0
    due: float = _READY
    refusals: int = 0


class Item(NamedTuple):
    """One operation of a batch, and the version to name in it (None: it names none)."""

    op_id: str
    base: int | None


class Batch(NamedTuple):
    """What is sent together, in this order."""

    items: tuple[Item, ...]
    size: int


class Settled(NamedTuple):
    """Nothing will be sent of this any more. `version` is the entity's after it, None when it had no effect."""

    op_id: str
    entity_id: str
    answer: Answer
    base: int | None
    version: int | None


class PutOff(NamedTuple):
    """To be sent again, not before `due`."""

    op_id: str
    tries: int
    due: float


class Wait(NamedTuple):
    """How long everything waits: after so many tries that came to nothing, until `due`. `soft`: of our own accord."""

    tries: int = 0
    due: float = _READY
    soft: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What an answer changed, to be written down at once and together. `based`: whose version is known now."""

    settled: tuple[Settled, ...] = ()
    put_off: tuple[PutOff, ...] = ()
    based: tuple[Item, ...] = ()


class Outbox:
    """The operations of one device that wait, oldest first."""

    def __init__(
        self, rand: "Random", pace: Pace | None = None, *, queued: Iterable[Queued] = (), wait: Wait | None = None
    ) -> None:
        self._rand = rand
        self._pace = pace or Pace()
        self._queued = {one.op_id: one for one in queued}
        self.wait = wait or Wait()
        self.under_way: Batch | None = None
        self._count_max = BATCH_MAX
        self._bytes_max = BATCH_MAX_BYTES
        self._next: float | None = None
        self._is_next_known = False
        self._held = False

    def __repr__(self) -> str:
        under_way = len(self.under_way.items) if self.under_way else 0
        return f"Outbox({len(self._queued)} wait, {under_way} under way, {self.wait.tries} tries failed)"

    def __len__(self) -> int:
        return len(self._queued)

    def __contains__(self, op_id: str) -> bool:
        return op_id in self._queued

    def add(self, one: Queued) -> None:
        """It waits from now on, behind all others."""
        assert one.op_id not in self._queued
        self._queued[one.op_id] = one
        self._is_next_known = False

    def hold(self, held: bool) -> None:
        """Whether to send nothing, since there is no room for more results."""
        self._held = held
        self._is_next_known = False

    # -- sending

    @property
    def due(self) -> float | None:
        """When the next batch is to be sent; None as long as nothing changes."""
        if not self._is_next_known:
            self._next = self._find_due()
            self._is_next_known = True
        return self._next

    def next_batch(self, now: float, *, bytes_max: int = BATCH_MAX_BYTES) -> Batch | None:
        """What to send now; it is under way until one of the `on_` is called."""
        due = self.due
        if due is None or due > now:
            return None
        bytes_max = min(bytes_max, self._bytes_max)
        items: list[Item] = []
        size = 0
        blocked: set[str] = set()
        expected: dict[str, int] = {}
        for one in self._queued.values():
            if one.entity_id in blocked:
                continue
            alone = one.refusals > 0  # that one may spoil a batch for all the others
            if one.due > now or (alone and items):
                blocked.add(one.entity_id)
                continue
            if items and (len(items) >= self._count_max or size + one.size > bytes_max):
                break
            base = one.base if one.after is None else expected.get(one.after)
            assert one.after is None or base is not None, "what comes before it on its entity is in this batch"
            expected[one.op_id] = (base or 0) + 1
            items.append(Item(one.op_id, base))
            size += one.size
            if alone:
                break
        assert items, "something was due"
        self.under_way = Batch(tuple(items), size)
        self._is_next_known = False
        return self.under_way

    def while_under_way(self, now: float) -> Wait:
        """What holds for a process that is started after this one was killed with a batch under way: it waits, and each
        time longer, so that something that is killed by what it is answered asks less and less often."""
        return Wait(self.wait.tries + 1, now + self._pause(self.wait.tries, None), soft=False)

    # -- what became of it

    def on_results(self, answers: Iterable[Answer], now: float) -> Change:
        """The batch was answered: a result for each operation, told apart by `op_id`."""
        batch = self._ended()
        found: dict[str, Answer] = {}
        for answer in answers:
            if answer.op_id is not None:
                found.setdefault(answer.op_id, answer)
        settled: list[Settled] = []
        put_off: list[PutOff] = []
        failed: dict[str, str] = {}
        waiting: set[str] = set()
        for item in batch.items:
            one = self._queued[item.op_id]
            answer_ = found.get(one.op_id)
            if answer_ is not None and answer_.is_final:
                settled.append(self._settle(one, answer_, item.base))
                if settled[-1].version is None:
                    failed[one.op_id] = one.op_id
            elif one.after in failed:
                failed[one.op_id] = failed[one.after]
                settled.append(self._settle(one, _never_sent(one.op_id, failed[one.after]), None))
            else:
                one.tries += 1
                # Behind one of its entity that is put off itself, it waits for that one.
                due = _READY
                if one.entity_id not in waiting:
                    waiting.add(one.entity_id)
                    due = now + self._pause(one.tries - 1, None if answer_ is None else answer_.retry_after_s)
                one.due = due
                put_off.append(PutOff(one.op_id, one.tries, due))
        settled += self._fail_later(failed)
        based = self._base_later(settled)
        if any(one.op_id in found for one in settled):
            self.wait = Wait()
            self._count_max = min(BATCH_MAX, 2 * self._count_max)
            self._bytes_max = min(BATCH_MAX_BYTES, 2 * self._bytes_max)
        else:
            # It has its hands full: do not go on with the next ones as if it had not.
            dues = [one.due for one in put_off if one.due > _READY]
            self.wait = Wait(self.wait.tries + 1, min(dues, default=now), soft=False)
        return Change(tuple(settled), tuple(put_off), tuple(based))

    def on_failed(self, now: float, *, wish_s: float | None = None, answered: bool = False) -> None:
        """It is not known what became of the batch, or the server took none of it. `wish_s`: Retry-After."""
        batch = self._ended()
        if not answered and len(batch.items) > 1:
            # A slow link may be cut before a large one is through.
            self._bytes_max = max(BATCH_LEAST_BYTES, min(self._bytes_max, batch.size) // 2)
        tries = self.wait.tries
        self.wait = Wait(tries + 1, now + self._pause(tries, wish_s), soft=not answered and wish_s is None)

    def on_refused(self, http: int, fault: Fault, now: float) -> Change:
        """The server cannot read the batch, or says that it is too large: there is one operation in it that it does not
        take, and it is looked for by halves. Refused by itself several times, it is rejected."""
        batch = self._ended()
        self.wait = Wait(self.wait.tries, now + self._pause(0, None), soft=False)
        if len(batch.items) > 1:
            self._count_max = len(batch.items) // 2
            return Change()
        item = batch.items[0]
        one = self._queued[item.op_id]
        one.refusals += 1
        if one.refusals < REFUSALS_MAX:
            one.tries += 1
            one.due = now + self._pause(one.refusals, None)
            return Change(put_off=(PutOff(one.op_id, one.tries, one.due),))
        settled = [self._settle(one, Answer(one.op_id, "rejected", http, error=fault), item.base)]
        settled += self._fail_later({one.op_id: one.op_id})
        return Change(tuple(settled))

    def on_abandoned(self) -> None:
        """It was not sent after all, and may be at once."""
        self._ended()

    def pause(self, now: float, tries: int) -> None:
        """What the last answer meant could not be written down: ask for it again, but not at once."""
        self.wait = Wait(tries + 1, now + self._pause(tries, None), soft=False)
        self._is_next_known = False

    def hurry(self, now: float) -> None:
        """The network is back: what waits of our own accord need not wait any longer."""
        if self.wait.soft and self.wait.due > now:
            self.wait = self.wait._replace(due=now)
            self._is_next_known = False

    # -- inside

    def _find_due(self) -> float | None:
        if self.under_way is not None or self._held or not self._queued:
            return None
        first: float | None = None
        seen: set[str] = set()
        for one in self._queued.values():
            if one.entity_id in seen:
                continue
            seen.add(one.entity_id)
            first = one.due if first is None else min(first, one.due)
            if first <= self.wait.due:
                return self.wait.due
        return first

    def _ended(self) -> Batch:
        batch, self.under_way = self.under_way, None
        assert batch is not None, "a batch is under way"
        self._is_next_known = False
        return batch

    def _settle(self, one: Queued, answer: Answer, base: int | None) -> Settled:
        del self._queued[one.op_id]
        version = (answer.version or (base or 0) + 1) if answer.has_effect else None
        return Settled(one.op_id, one.entity_id, answer, base, version)

    def _fail_later(self, failed: Mapping[str, str]) -> list[Settled]:
        """All that were to be made after one of these, or after one of those, and so on."""
        if not failed:
            return []
        causes = dict(failed)
        settled = []
        for one in list(self._queued.values()):
            if one.after in causes:
                causes[one.op_id] = causes[one.after]
                settled.append(self._settle(one, _never_sent(one.op_id, causes[one.after]), None))
        return settled

    def _base_later(self, settled: Iterable[Settled]) -> list[Item]:
        versions = {one.op_id: one.version for one in settled if one.version is not None}
        if not versions:
            return []
        based = []
        for one in self._queued.values():
            if one.after is not None and (version := versions.get(one.after)) is not None:
                one.base, one.after = version, None
                based.append(Item(one.op_id, version))
        return based

    def _pause(self, tries: int, wish_s: float | None) -> float:
        pace = self._pace
        own_s = min(pace.cap_s, pace.base_s * 2.0 ** min(tries, 32)) * self._rand.uniform(0.5, 1.5)
        if wish_s is None or not wish_s >= 0:
            return own_s
        wish_s = min(wish_s, pace.wish_max_s)
        # Never before it, and not all at once after it; a server that wishes for no pause at all is given a short one.
        return max(pace.base_s / 4, wish_s + self._rand.uniform(0.0, min(pace.spread_max_s, wish_s / 4)))


def _never_sent(op_id: str, cause: str) -> Answer:
    detail = f"not sent: {cause}, which it was made after, had no effect"
    return Answer(op_id, "rejected", 424, error=Fault(NEVER_SENT, detail))
