"""Templates as they are answered, from the nearest of three places: this process, Redis, Postgres.

Promises: no answer is older than `TRUST_S` when it is given, whatever is lost. What this process keeps is trusted for
so long since Postgres last said that it is the newest: `run()` asks that for all of it in one read every half second;
what nobody vouches for any more is asked for when it is needed. What comes from Redis is never taken without that
question, which brings the body at once if Redis had another. So signals and Redis itself only make things faster;
Redis spares Postgres the bodies, and costs this process a little more than reading them from there.

    t = 0.0   compare: v1 is the newest            trusted until 0.9
    t = 0.1   v2 is committed elsewhere; its signal is lost
    t = 0.5   compare: v1 is not the newest        dropped; without an answer from Postgres trusted until 0.9 at most

Many requests for what is not here wait for one read.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Final, NamedTuple
from uuid import UUID

import structlog

from api.byte_lru import ByteLru
from api.preconditions import etag_of
from api.template_answer import ASK_AGAIN, ReadyAnswer, encoded_template, template_headers
from shared.bus.message import TEMPLATE, template_id_of, template_message
from shared.bus.names import template_channel, template_entry
from shared.bus.publisher import Publisher
from shared.bus.versioned_cache import KeptAnswer, VersionedCache
from shared.clock import monotonic
from shared.store import templates
from shared.store.errors import StoreError
from shared.store.pool import Pool
from shared.store.templates import Edition, TemplateRow
from shared.telemetry.metrics import (
    API_TEMPLATE_COMPARES,
    API_TEMPLATE_READS,
    API_TEMPLATES_DROPPED,
    API_TEMPLATES_KEPT_BYTES,
)

__all__ = ["TRUST_S", "CachedTemplate", "TemplateCache"]

TRUST_S: Final = 0.9
ENTRIES_MAX: Final = 10_000
LOAD_DEADLINE_S: Final = 10.0
# Beside its body: headers, keys, the entry itself.
_OVERHEAD_BYTES: Final = 1024
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class CachedTemplate:
    """The newest version as far as Postgres said so at `verified_at`; `etag` and both answers are ready made."""

    template_id: UUID
    edition: Edition
    body: bytes
    verified_at: float
    keep_until: float
    etag: str
    headers: list[tuple[bytes, bytes]]
    headers_of_304: list[tuple[bytes, bytes]]

    def answer(self) -> ReadyAnswer:
        """The whole template."""
        return ReadyAnswer(200, self.headers, self.body)

    def not_modified(self) -> ReadyAnswer:
        """For who has it already."""
        return ReadyAnswer(304, self.headers_of_304)


class _Found(NamedTuple):
    """What a load brought, and when it was asked for; nothing is older than that."""

    entry: CachedTemplate | None
    asked_at: float
    tier: str


class TemplateCache:
    """`get` reads, `replaced` follows a change, `on_signal` takes what others say; `run()` compares."""

    def __init__(
        self,
        pool: Pool,
        redis: VersionedCache,
        publisher: Publisher,
        *,
        max_bytes: int,
        keep_s: float,
        compare_s: float,
        rand: Random,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._pool = pool
        self._redis = redis
        self._publisher = publisher
        self._keep_s = keep_s
        self._compare_s = compare_s
        self._rand = rand
        self._clock = clock
        self._kept: ByteLru[UUID, CachedTemplate] = ByteLru(max_bytes, ENTRIES_MAX)
        self._loads: dict[UUID, asyncio.Task[_Found]] = {}
        self._is_comparing = True
        self._from_here = API_TEMPLATE_READS.labels("process")
        API_TEMPLATES_KEPT_BYTES.set_function(lambda: self._kept.size_bytes)

    def __repr__(self) -> str:
        return f"TemplateCache({self._kept!r}, {len(self._loads)} loads, {self._redis!r})"

    async def get(self, template_id: UUID, *, at_once: bool = False) -> CachedTemplate | None:
        """The newest version, or None when there is no such template.

        At most `TRUST_S` old; with `at_once` not older than this call. Raises StoreError when nobody can tell.
        """
        came_at = self._clock()
        oldest = came_at if at_once else came_at - TRUST_S
        entry = self._kept.use(template_id)
        if entry is not None and entry.verified_at >= oldest and entry.keep_until > came_at:
            self._from_here.inc()
            return entry
        while True:
            found = await self._loaded(template_id)
            # One that others had begun may be older than we are, and a slow one older than may be told.
            if found.asked_at >= (came_at if at_once else min(came_at, self._clock() - TRUST_S)):
                API_TEMPLATE_READS.labels(found.tier).inc()
                return found.entry

    def replaced(self, row: TemplateRow, *, began_at: float) -> None:
        """A change was committed here, in a transaction begun then: keep it here and in Redis, and tell the others."""
        entry = self._entry(row.template_id, row.edition, encoded_template(row), began_at)
        self._keep(entry, instead_of=None)
        self._put_in_redis(entry)
        self._publisher.offer_to(template_channel(), template_message(row.template_id, row.version))

    def on_signal(self, kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        """Another process says that there is a newer version. If it is wrong, that costs a read."""
        template_id = template_id_of(body) if kind == TEMPLATE else None
        entry = self._kept.peek(template_id) if template_id is not None else None
        if entry is not None and entry.edition.version != seq:
            self._drop(entry, "signal")

    async def run(self) -> None:
        """Compare until cancelled. While Postgres does not answer, nothing that is kept stays trusted."""
        while True:
            await asyncio.sleep(self._compare_s * self._rand.uniform(0.9, 1.0))
            try:
                async with asyncio.timeout(LOAD_DEADLINE_S):
                    await self.compare()
            except (StoreError, TimeoutError) as error:
                API_TEMPLATE_COMPARES.labels("failed").inc()
                if self._is_comparing:
                    _log.warning("templates cannot be compared now", detail=repr(error))
                self._is_comparing = False
            else:
                self._is_comparing = True

    async def compare(self) -> None:
        """Ask once which of all that is kept is not the newest any more."""
        now = self._clock()
        kept = []
        for entry in self._kept.values():
            if entry.keep_until <= now:
                self._drop(entry, "age")
            else:
                kept.append(entry)
        if not kept:
            return
        outdated = await templates.outdated(self._pool, [(entry.template_id, entry.edition) for entry in kept])
        API_TEMPLATE_COMPARES.labels("done").inc()
        for entry in kept:
            if entry.template_id not in outdated:
                entry.verified_at = max(entry.verified_at, now)
            elif self._kept.peek(entry.template_id) is entry:
                self._drop(entry, "compare")

    async def close(self) -> None:
        """Give up the loads under way, and Redis."""
        for load in self._loads.values():
            load.cancel()
        await self._redis.aclose()

    async def _loaded(self, template_id: UUID) -> _Found:
        load = self._loads.get(template_id)
        if load is None:
            load = self._loads[template_id] = asyncio.create_task(self._load(template_id), name="load template")
            # Nobody may be left to hear of it when it fails.
            load.add_done_callback(lambda done: done.cancelled() or done.exception())
        try:
            return await asyncio.shield(load)
        except TimeoutError:
            raise StoreError("a template was not read in time") from None

    async def _load(self, template_id: UUID) -> _Found:
        try:
            async with asyncio.timeout(LOAD_DEADLINE_S):
                return await self._read(template_id)
        finally:
            # In the same step as the answer: who comes now begins another.
            del self._loads[template_id]

    async def _read(self, template_id: UUID) -> _Found:
        here = self._kept.peek(template_id)
        if here is not None and here.keep_until <= self._clock():
            self._drop(here, "age")
            here = None
        nearby = None if here is not None else await self._redis.get(template_entry(template_id))
        known = here.edition if here is not None else _edition_of(nearby)
        asked_at = self._clock()
        row = await templates.read(self._pool, template_id, known)
        if row is None:
            if here is not None:
                self._drop(here, "compare")
            return _Found(None, asked_at, "none")
        if here is not None and row == here.edition:
            here.verified_at = max(here.verified_at, asked_at)
            return _Found(here, asked_at, "process")
        if isinstance(row, TemplateRow):
            entry, tier = self._entry(template_id, row.edition, encoded_template(row), asked_at), "postgres"
            self._put_in_redis(entry)
        else:
            assert nearby is not None, "a row is left out only when its edition was named"
            entry, tier = self._entry(template_id, row, nearby.body, asked_at), "redis"
        if (newer := self._keep(entry, instead_of=here)) is not None:
            return _Found(newer, newer.verified_at, "process")
        return _Found(entry, asked_at, tier)

    def _keep(self, entry: CachedTemplate, *, instead_of: CachedTemplate | None) -> CachedTemplate | None:
        """A change may have been kept while a load was under way: then that newer one stays, and is returned."""
        current = self._kept.peek(entry.template_id)
        if current is not None and current is not instead_of and _is_newer(current.edition, entry.edition):
            return current
        gone = self._kept.put(entry.template_id, entry, len(entry.body) + _OVERHEAD_BYTES)
        API_TEMPLATES_DROPPED.labels("full").inc(gone)
        return None

    def _drop(self, entry: CachedTemplate, why: str) -> None:
        if self._kept.discard(entry.template_id):
            API_TEMPLATES_DROPPED.labels(why).inc()

    def _put_in_redis(self, entry: CachedTemplate) -> None:
        at_us = (entry.edition.updated_at - _EPOCH) // timedelta(microseconds=1)
        self._redis.put(template_entry(entry.template_id), KeptAnswer(entry.edition.version, at_us, entry.body))

    def _entry(self, template_id: UUID, edition: Edition, body: bytes, verified_at: float) -> CachedTemplate:
        common = _raw(template_headers(edition.version, ASK_AGAIN))
        whole = [*common, *_raw({"Content-Type": "application/json", "Content-Length": str(len(body))})]
        keep_until = self._clock() + self._keep_s
        etag = etag_of(edition.version)
        return CachedTemplate(template_id, edition, body, verified_at, keep_until, etag, whole, common)


def _edition_of(kept: KeptAnswer | None) -> Edition | None:
    """What Redis says it has, if that is an edition there can be."""
    if kept is None or not (1 <= kept.version < 2**31 and 0 <= kept.at_us < 2**53):
        return None
    return Edition(kept.version, _EPOCH + timedelta(microseconds=kept.at_us))


def _is_newer(one: Edition, other: Edition) -> bool:
    return (one.updated_at, one.version) > (other.updated_at, other.version)


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
