"""Requests to one API process over one connection, timed until the last byte of the answer; then the same by OFFSET.

The CPU that API and Postgres take for a request is counted as well: that figure stands on a busy machine, too.

Every list is asked for from its first page on, and from one that lies far down; each request goes on where the last
one ended, so that no answer is simply asked for again. The cursor of a page far down is made here, by the keys that
the API has: to walk there would take thousands of requests.
"""

import http.client
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

import asyncpg

from api.job_list import JobKey, identity, plan
from api.pagination import SignedCursors
from loadtests.bench_jobs.points import Point, by_offset, where_of
from loadtests.driver.latency import Latencies
from loadtests.process import cpu_nanoseconds
from shared.store.queries import statements

__all__ = ["PAGE", "Api", "Measured", "histories", "key_at", "lists", "offset", "statement"]

PAGE: Final = 100
_TIMES: Final = 3
_SQL: Final = statements("job_list")
_LEAN: Final = "job_id, device_id, kind, name, current_status, attempts, size, created_at, started_at, finished_at"


@dataclass
class Measured:
    """One list at one depth."""

    point: str
    depth: int
    rest: Latencies = field(default_factory=Latencies)
    rows: int = 0
    cpu_ms: float | None = None
    statement_ms: float | None = None
    offset_ms: float | None = None

    def as_json(self) -> dict[str, Any]:
        """As it is saved."""
        return {
            "list": self.point,
            "depth": self.depth,
            "requests": self.rest.count,
            "rows_per_page": round(self.rows / max(self.rest.count, 1), 1),
            "p50_ms": round(self.rest.percentile(50), 2),
            "p95_ms": round(self.rest.percentile(95), 2),
            "p99_ms": round(self.rest.percentile(99), 2),
            "cpu_ms": self.cpu_ms,
            "statement_ms": self.statement_ms,
            "offset_ms": self.offset_ms,
        }


class Api:
    """One connection to the API, as an operator. `pids` are the API and its Postgres."""

    def __init__(self, port: int, token: str, pids: tuple[int, int]) -> None:
        self._pids = pids
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str, parameters: dict[str, str], latencies: Latencies) -> dict[str, Any]:
        """The answer, timed. Raises RuntimeError for anything but a 200."""
        began = time.perf_counter()
        self._connection.request("GET", f"/api/v1/{path}?{urlencode(parameters)}", headers=self._headers)
        response = self._connection.getresponse()
        body = response.read()
        latencies.add((time.perf_counter() - began) * 1000)
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}: {body[:300]!r}")
        answer: dict[str, Any] = json.loads(body)
        return answer

    def cpu_ms(self) -> float:
        """Milliseconds of CPU that the API and all of Postgres' processes have taken so far."""
        api, postgres = self._pids
        children = Path(f"/proc/{postgres}/task/{postgres}/children").read_text().split()
        spent = cpu_nanoseconds(api)
        for pid in children:
            with suppress(OSError):  # it has just ended
                spent += cpu_nanoseconds(int(pid))
        return spent / 1e6

    def close(self) -> None:
        """End the connection."""
        self._connection.close()


async def key_at(sql: asyncpg.Connection, point: Point, depth: int) -> tuple[int, JobKey | None]:
    """How far down the list really goes (at most `depth`), and the key of the row there."""
    text, arguments = by_offset(point.question, f"{point.question.sort}, job_id", index_only=True)
    while depth > 0:
        row = await sql.fetchrow(text, *arguments, 1, depth)
        if row is not None:
            return depth, (row[0], UUID(str(row[1])))
        depth //= 4
    return 0, None


def lists(api: Api, cursors: SignedCursors, point: Point, depth: int, key: JobKey | None, *, requests: int) -> Measured:
    """Pages from the key on, beginning again there when the list ends."""
    sort, filters = identity(point.question)
    parameters = point.parameters | {"limit": str(PAGE)}
    begin = parameters if key is None else parameters | {"cursor": cursors.sign(sort, filters, key)}
    measured = Measured(point.name, depth)
    for _ in range(5):  # connections of the API's pool meet the statement for the first time
        api.get("jobs", begin, Latencies())
    asked = begin
    before = api.cpu_ms()
    for _ in range(requests):
        answer = api.get("jobs", asked, measured.rest)
        measured.rows += len(answer["jobs"])
        # The first page is what is measured there; further down it is page after page.
        asked = parameters | {"cursor": answer["next"]} if key is not None and answer["next"] else begin
    measured.cpu_ms = round((api.cpu_ms() - before) / requests, 2)
    return measured


async def statement(sql: asyncpg.Connection, point: Point, key: JobKey | None) -> float:
    """Milliseconds that Postgres and the driver take for the page from the key on: the best of some."""
    walk = plan(point.question, key)
    return await _best(sql, _SQL[walk.statement], [*walk.key, PAGE + 1, *walk.checks])


async def offset(sql: asyncpg.Connection, point: Point, key: JobKey | None) -> float:
    """The same for the same rows by OFFSET."""
    rows = 0
    if key is not None:
        where, arguments = where_of(point.question)
        count = len(arguments)
        beyond = ">=" if point.question.descending else "<="
        counting = f"SELECT count(*) FROM jobs WHERE {where} AND ({point.question.sort}, job_id) {beyond} "
        rows = await sql.fetchval(f"{counting} (${count + 1}, ${count + 2})", *arguments, *key)
    text, arguments = by_offset(point.question, _LEAN)
    return await _best(sql, text, [*arguments, PAGE + 1, rows])


async def _best(sql: asyncpg.Connection, text: str, arguments: Sequence[object]) -> float:
    best = float("inf")
    for _ in range(_TIMES):
        began = time.perf_counter()
        await sql.fetch(text, *arguments)
        best = min(best, (time.perf_counter() - began) * 1000)
    return round(best, 2)


def histories(api: Api, job_ids: Sequence[str], name: str, *, requests: int) -> Measured:
    """Histories of one job after the other, page after page where they are long."""
    measured = Measured(name, 0)
    cursor: dict[str, str] = {}
    number = 0
    before = api.cpu_ms()
    for _ in range(requests):
        answer = api.get(f"jobs/{job_ids[number % len(job_ids)]}/history", cursor, measured.rest)
        measured.rows += len(answer["history"])
        cursor = {"cursor": answer["next"]} if answer["next"] else {}
        number += not cursor
    measured.cpu_ms = round((api.cpu_ms() - before) / requests, 2)
    return measured
