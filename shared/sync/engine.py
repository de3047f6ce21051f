"""A batch of operations becomes effects and results, in one transaction of at most a dozen statements.

Promises: each `op_id` of a principal has one effect, whatever is cut, repeated or sent to two processes at once;
operations on one entity are applied in their order, and one that fails stops only the later ones on that entity. What
is final (applied, rejected) is kept with its key and told again; a conflict or a retry is not, and may be sent again
under the same key. The order of locks: keys, sorted; the principal's day; templates; inspections, by id.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg
import msgspec
import structlog

from shared import inspections
from shared.inspections import Applied, Conflict, Inspection, Rejected, Who
from shared.protocol.operations import (
    Create,
    Invalid,
    Operation,
    OperationError,
    OperationResult,
    body_hash,
    decode_operation,
    type_of,
)
from shared.store import operations as store
from shared.store.errors import StoreBusy
from shared.store.operations import Kept, Key, Known
from shared.store.pool import Connection, Pool
from shared.telemetry.metrics import SYNC_OPERATIONS

__all__ = ["KEYS_PER_DAY", "KeysSpent", "Outcome", "apply_batch", "apply_decoded", "check_keys", "results_of"]

KEYS_PER_DAY: Final = 50_000
LOCK_WAIT_S: Final = 1.0
RETRY_AFTER_S: Final = 1.0
# A rival that makes one of our entities between two of our statements is seen by the next try.
TRIES: Final = 3
ENTITIES_MAX_BYTES: Final = 1024 * 1024

_UNEXPECTED: Final = (asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)

_log = structlog.get_logger(__name__)
_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(OperationResult)


class KeysSpent(Exception):
    """The principal has used all the keys of its day; `retry_after_s` is until the next one."""

    def __init__(self, limit: int, retry_after_s: int) -> None:
        super().__init__(f"more than {limit} operations today (UTC); send the rest tomorrow")
        self.limit = limit
        self.retry_after_s = retry_after_s


def check_keys(used: int, limit: int, now: datetime) -> None:
    """Raises KeysSpent when so many keys are too many for the day."""
    if used > limit:
        now = now.astimezone(UTC)
        midnight = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
        raise KeysSpent(limit, int((midnight - now).total_seconds()) + 1)


class Outcome(NamedTuple):
    """An operation's result, and the entity as the operation left or found it, where it was looked at."""

    result: OperationResult
    entity: Inspection | None = None


class _Overtaken(Exception):
    """A rival made an entity that was not there when we looked."""


async def apply_batch(
    pool: Pool, principal: str, batch: Sequence[Mapping[str, Any]], *, keys_per_day: int = KEYS_PER_DAY
) -> list[Outcome]:
    """Apply operations as they came (decoded JSON objects): one outcome each, in their order.

    When it returns, what it calls applied is durable. Raises KeysSpent and StoreError: then nothing had an effect, or,
    if Postgres was lost over the commit, all of it may have had; sending the same again is safe and tells.
    """
    return await apply_decoded(pool, principal, [decode_operation(one) for one in batch], keys_per_day=keys_per_day)


async def apply_decoded(
    pool: Pool, principal: str, batch: Sequence[Operation | Invalid], *, keys_per_day: int = KEYS_PER_DAY
) -> list[Outcome]:
    """`apply_batch` for operations that are decoded."""
    asked = [_Asked(one) for one in batch]
    work = _Batch(principal, asked, keys_per_day)
    try:
        outcomes = await _committed(pool, work) if work.asks else work.put_off("", "")
    except StoreBusy:
        outcomes = work.put_off("unavailable", "a lock was not free in time; send it again")
    except _UNEXPECTED as error:
        _log.error("batch failed, its operations are tried one by one", error=f"{type(error).__name__}: {error}")
        outcomes = await _one_by_one(pool, principal, asked, keys_per_day)
    for status, count in Counter(result.status for result, _ in outcomes).items():
        SYNC_OPERATIONS.labels(status).inc(count)
    return outcomes


def results_of(outcomes: Sequence[Outcome], *, entities_max_bytes: int = ENTITIES_MAX_BYTES) -> list[OperationResult]:
    """The results as they go out: conflicts with the server's state, as long as all of them are not too large."""
    results = []
    for result, entity in outcomes:
        shown = result
        if result.status == "conflict" and entity is not None:
            size = len(entity.answers.encode())
            if size <= entities_max_bytes:
                entities_max_bytes -= size
                shown = msgspec.structs.replace(result, entity=inspections.state_of(entity))
        results.append(shown)
    return results


class _Asked:
    """One item of a batch with what is known of it."""

    __slots__ = ("entity_id", "hash", "invalid", "op_id", "operation")

    def __init__(self, item: Operation | Invalid) -> None:
        self.op_id = item.op_id
        self.entity_id = None if item.entity_id is None else UUID(item.entity_id)
        if isinstance(item, Invalid):
            self.invalid: Invalid | None = item
            self.operation: Operation | None = None
            self.hash = b""
        else:
            self.invalid, self.operation, self.hash = None, item, body_hash(item)


class _Batch:
    """What one transaction does with a batch. `run` may be called again: it begins anew."""

    def __init__(self, principal: str, asked: Sequence[_Asked], keys_per_day: int) -> None:
        self._principal = principal
        self._who = Who.of(principal)
        self._asked = asked
        self._keys_per_day = keys_per_day
        self._firsts: dict[str, _Asked] = {}
        for one in asked:
            if one.operation is not None:
                self._firsts.setdefault(one.operation.op_id, one)

    @property
    def asks(self) -> bool:
        """Whether there is anything to ask Postgres."""
        return bool(self._firsts)

    async def run(self, connection: Connection) -> list[Outcome]:
        """All of it, up to the commit."""
        held = await store.claim(connection, self._principal, self._who.subject, self._keys(), lock_wait_s=LOCK_WAIT_S)
        claimed = held.op_ids if held is not None else frozenset()
        known: dict[str, Known] = {}
        if len(claimed) < len(self._firsts):
            known = await store.known(connection, self._principal, self._firsts.keys() - claimed)
        if held is None:
            return self._judge({}, claimed, known, {}, None)[0]
        check_keys(held.used, self._keys_per_day, held.now)
        mine = [self._firsts[key] for key in claimed]
        wanted = {UUID(one.operation.data.template_id) for one in mine if isinstance(one.operation, Create)}
        templates = await store.lock_templates(connection, wanted) if wanted else {}
        entities = {one.entity_id for one in mine if one.entity_id is not None}
        before = await store.lock_inspections(connection, entities)
        outcomes, after = self._judge(before, claimed, known, templates, held.now)
        new = [entity for key, entity in after.items() if key not in before]
        if new and await store.insert_inspections(connection, new) < len(new):
            raise _Overtaken
        changed = [entity for key, entity in after.items() if key in before]
        if changed:
            await store.update_inspections(connection, changed)
        final, open_ = self._endings(claimed, outcomes)
        await store.finish(connection, self._principal, held.day, final=final, open_=open_)
        return outcomes

    def put_off(self, code: str, detail: str) -> list[Outcome]:
        """Nothing could be done now; what is malformed stays so."""
        return [
            Outcome(_malformed(one.invalid) if one.invalid else _retry(one.op_id, 503, code, detail))
            for one in self._asked
        ]

    def _keys(self) -> list[Key]:
        return [
            Key(op_id, type_of(first.operation), first.entity_id, first.hash)
            for op_id, first in self._firsts.items()
            if first.operation is not None and first.entity_id is not None
        ]

    def _judge(
        self,
        before: Mapping[UUID, Inspection],
        claimed: frozenset[str],
        known: Mapping[str, Known],
        templates: Mapping[UUID, int],
        now: datetime | None,
    ) -> tuple[list[Outcome], dict[UUID, Inspection]]:
        """The outcomes, and what is to be written."""
        outcomes: list[Outcome] = []
        after: dict[UUID, Inspection] = {}
        by_key: dict[str, Outcome] = {}
        stopped: set[UUID] = set()
        for one in self._asked:
            operation, entity_id = one.operation, one.entity_id
            if one.invalid is not None or operation is None or entity_id is None:
                assert one.invalid is not None
                outcome = Outcome(_malformed(one.invalid))
            elif (first := self._firsts[operation.op_id]) is not one:
                outcome = _repeated(one, first, by_key[operation.op_id])
            elif operation.op_id not in claimed:
                outcome = Outcome(_known_result(one, known.get(operation.op_id)))
            elif entity_id in stopped:
                detail = "an earlier operation on the same entity was not applied; send it when that one is settled"
                outcome = Outcome(_retry(operation.op_id, 409, "dependency", detail))
            else:
                assert now is not None
                entity = after.get(entity_id) or before.get(entity_id)
                outcome = self._apply(operation, entity, templates, now)
                if outcome.result.status == "applied" and outcome.entity is not None:
                    after[entity_id] = outcome.entity
            if operation is not None:
                by_key.setdefault(operation.op_id, outcome)
            if entity_id is not None and not _has_effect(outcome.result):
                stopped.add(entity_id)
            outcomes.append(outcome)
        return outcomes, after

    def _apply(
        self, operation: Operation, entity: Inspection | None, templates: Mapping[UUID, int], now: datetime
    ) -> Outcome:
        made = inspections.apply(entity, operation, who=self._who, now=now, templates=templates)
        op_id = operation.op_id
        match made:
            case Applied(changed):
                http = 201 if isinstance(operation, Create) else 200
                return Outcome(OperationResult(op_id, "applied", http, version=changed.version), changed)
            case Conflict(current):
                error = OperationError("conflict", f"its version is {current.version}")
                result = OperationResult(op_id, "conflict", 409, version=current.version, error=error)
                return Outcome(result, current)
            case Rejected(http, code, detail, field):
                return Outcome(OperationResult(op_id, "rejected", http, error=OperationError(code, detail, field)))

    def _endings(self, claimed: frozenset[str], outcomes: Sequence[Outcome]) -> tuple[list[Kept], list[str]]:
        final: list[Kept] = []
        open_: list[str] = []
        for one, (result, _) in zip(self._asked, outcomes, strict=True):
            if one.op_id not in claimed or one is not self._firsts.get(one.op_id):
                continue
            if result.status in ("applied", "rejected"):
                final.append(Kept(one.op_id, result.status, _encoder.encode(result).decode()))
            else:
                open_.append(one.op_id)
        return final, open_


async def _committed(pool: Pool, work: _Batch) -> list[Outcome]:
    for _ in range(TRIES):
        try:
            return await pool.run(work.run, repeatable=True)
        except _Overtaken:
            continue
    return work.put_off("unavailable", "others change the same entities; send it again")


async def _one_by_one(pool: Pool, principal: str, asked: Sequence[_Asked], keys_per_day: int) -> list[Outcome]:
    """Each operation in a transaction of its own, after one that nobody foresaw broke the batch.

    It is rejected and named in the log; the others must not suffer.
    """
    outcomes: list[Outcome] = []
    stopped: set[UUID] = set()
    for one in asked:
        work = _Batch(principal, [one], keys_per_day)
        if one.entity_id in stopped:
            detail = "an earlier operation on the same entity was not applied; send it when that one is settled"
            outcome = Outcome(_retry(one.op_id, 409, "dependency", detail))
        else:
            try:
                (outcome,) = await _committed(pool, work)
            except StoreBusy:
                (outcome,) = work.put_off("unavailable", "a lock was not free in time; send it again")
            except _UNEXPECTED as error:
                _log.error("operation failed", op_id=one.op_id, error=f"{type(error).__name__}: {error}")
                problem = OperationError("unprocessable", "the database refused it; this was logged")
                outcome = Outcome(OperationResult(one.op_id, "rejected", 422, error=problem))
        if one.entity_id is not None and not _has_effect(outcome.result):
            stopped.add(one.entity_id)
        outcomes.append(outcome)
    return outcomes


def _has_effect(result: OperationResult) -> bool:
    return result.error is None


def _malformed(invalid: Invalid) -> OperationResult:
    error = OperationError("invalid", invalid.detail, invalid.field)
    return OperationResult(invalid.op_id, "rejected", 400, error=error)


def _retry(op_id: str | None, http: int, code: str, detail: str) -> OperationResult:
    return OperationResult(op_id, "retry", http, error=OperationError(code, detail), retry_after_s=RETRY_AFTER_S)


def _known_result(one: _Asked, known: Known | None) -> OperationResult:
    if known is None or known.result is None:
        # Its rival has only claimed it, or retention took it a moment ago.
        return _retry(one.op_id, 409, "in_progress", "the same operation is being applied; ask again")
    if known.body_hash != one.hash:
        return _reused(one)
    return msgspec.structs.replace(_decoder.decode(known.result), status="duplicate")


def _repeated(one: _Asked, first: _Asked, outcome: Outcome) -> Outcome:
    """The outcome of an `op_id` that is in the batch before."""
    if first.hash != one.hash:
        return Outcome(_reused(one))
    if outcome.result.status in ("applied", "rejected"):
        return Outcome(msgspec.structs.replace(outcome.result, status="duplicate"), outcome.entity)
    return outcome


def _reused(one: _Asked) -> OperationResult:
    error = OperationError("key_reused", "another operation was sent under this op_id; give each its own", "op_id")
    return OperationResult(one.op_id, "rejected", 422, error=error)
