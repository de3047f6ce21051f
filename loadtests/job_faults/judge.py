"""What came of the jobs of one load: read from Postgres and from the cloud folder, where nothing can be hidden."""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from loadtests.job_faults.scene import Load
from shared.store.pool import Pool

__all__ = ["Verdict", "back_after", "judge"]

BACK_S: Final = 5.0
_BACK_SHARE: Final = 0.8
_WINDOW_S: Final = 1.0
_ENDS: Final = frozenset({"done", "dead", "cancelled"})


@dataclass(frozen=True)
class Verdict:
    """Of one fault. `problems` is empty when all held."""

    fault: str
    times: int
    jobs: int
    done: int
    dead: int
    more_than_one_attempt: int
    before_per_s: float
    least_per_s: float
    back_after_s: float | None
    slowest_s: float
    dead_though_well: int
    problems: tuple[str, ...]


def back_after(ended: list[float], at: float, wanted: float, until: float) -> float | None:
    """Seconds after `at` until a second with so many ends begins; None when there is none."""
    step = 0.1
    for number in range(int((until - _WINDOW_S - at) / step) + 1):
        begin = at + number * step
        if sum(begin <= one < begin + _WINDOW_S for one in ended) >= wanted * _WINDOW_S:
            return round(number * step, 1)
    return None


async def judge(
    pool: Pool, root: Path, load: Load, *, fault: str, times: int, clock: tuple[float, float, float] | None
) -> Verdict:
    """`clock` is when the fault began and was over and when the load ended (wall clock, as Postgres'), if it counts."""
    rows = await pool.fetch(
        "SELECT job_id, kind, current_status, attempts, extract(epoch FROM finished_at)::float8 AS finished, "
        "extract(epoch FROM finished_at - created_at)::float8 AS took FROM jobs WHERE device_id = ANY($1)",
        load.devices,
    )
    states = {row["job_id"]: row for row in rows}
    problems = Counter[str]()
    for job_id in load.accepted:
        row = states.get(job_id)
        if row is None:
            problems["accepted and not there"] += 1
        elif row["current_status"] not in ("done", "dead"):
            problems[f"left {row['current_status']}"] += 1
    problems["there and not accepted"] += len(states.keys() - load.accepted.keys())
    problems["done though it cannot be"] += sum(
        row["current_status"] == "done" and row["kind"] != "echo" for row in rows
    )
    problems += await _histories(pool, load)
    problems += await _effects(pool, root, load, {job_id: row["current_status"] for job_id, row in states.items()})
    before, least, back = 0.0, 0.0, None
    if clock is not None:
        ended = [row["finished"] for row in rows if row["finished"] is not None]
        before, least, back = _rates(ended, load.began, *clock)
        if back is None or back > BACK_S:
            problems["not back at the old rate in time"] += 1
    if not times:
        problems["the fault did not happen"] += 1
    return Verdict(
        fault=fault,
        times=times,
        jobs=len(load.accepted),
        done=sum(row["current_status"] == "done" for row in rows),
        dead=sum(row["current_status"] == "dead" for row in rows),
        more_than_one_attempt=sum(row["attempts"] > 1 and row["kind"] == "echo" for row in rows),
        before_per_s=round(before, 1),
        least_per_s=least,
        back_after_s=back,
        slowest_s=round(max((row["took"] for row in rows if row["took"] and row["kind"] == "echo"), default=0.0), 1),
        dead_though_well=sum(row["current_status"] == "dead" and row["kind"] == "echo" for row in rows),
        problems=tuple(f"{count} × {what}" for what, count in problems.items() if count),
    )


def _rates(
    ended: list[float], loaded: float, began: float, over: float, until: float
) -> tuple[float, float, float | None]:
    """Ends per second before the fault, in the worst second of it, and how soon afterwards they are as before."""
    window = min(3.0, began - loaded)
    before = sum(began - window <= one < began for one in ended) / window
    per_second = Counter(int(one - began) for one in ended if began <= one < over + 1)
    least = min(per_second[second] for second in range(int(over - began) + 1))
    return before, float(least), back_after(ended, over, before * _BACK_SHARE, until)


async def _histories(pool: Pool, load: Load) -> Counter[str]:
    """Every job ended once, and nothing happened to it afterwards."""
    lines = await pool.fetch(
        "SELECT job_id, array_agg(status ORDER BY id) AS statuses FROM job_status WHERE job_id = ANY($1) GROUP BY 1",
        list(load.accepted),
    )
    wrong = sum(
        sum(status in _ENDS for status in row["statuses"]) != 1 or row["statuses"][-1] not in _ENDS for row in lines
    )
    return Counter({"ended more than once, or not last": wrong})


async def _effects(pool: Pool, root: Path, load: Load, states: dict[UUID, str]) -> Counter[str]:
    problems = Counter[str]()
    events: dict[UUID, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    seqs: dict[str, list[int]] = defaultdict(list)
    for row in await pool.fetch(
        "SELECT device_id, seq, type, body FROM events WHERE device_id = ANY($1) ORDER BY device_id, seq", load.devices
    ):
        seqs[row["device_id"]].append(row["seq"])
        data = json.loads(row["body"])["data"]
        events[UUID(data["job_id"])].append((row["type"], data))
    problems["logs with a hole"] += sum(seq != list(range(1, len(seq) + 1)) for seq in seqs.values())
    documents: dict[UUID, list[Path]] = defaultdict(list)
    for device in load.devices:
        for file in (root / "Responses" / device).glob("*/response.json"):
            documents[UUID(file.parent.name.rpartition(".")[2])].append(file)
    for job_id, state in states.items():
        told, stands = events.pop(job_id, []), documents.pop(job_id, [])
        if len(told) != 1:
            problems[f"{len(told)} events"] += 1
        elif told[0][0] != ("ResponseReady" if state == "done" else "RequestFailed"):
            problems[f"{state} and told {told[0][0]}"] += 1
        elif state == "done" and (len(stands) != 1 or not _is_as_told(stands[0], told[0][1])):
            problems["response is not as told"] += 1
        if state == "dead" and stands:
            problems["dead and answered"] += 1
    problems["events of no job"] += len(events)
    problems["responses of no job"] += len(documents)
    return problems


def _is_as_told(document: Path, data: dict[str, Any]) -> bool:
    """Every file that the event names is there as named, and they are those of the one response.json."""
    told = {file["name"]: (file["size"], file["sha256"]) for file in data["files"]}
    named = {file["name"] for file in json.loads(document.read_bytes())["files"]}
    if told.keys() != named | {"response.json"}:
        return False
    for name, digest in told.items():
        content = (document.parent / name).read_bytes()
        if (len(content), sha256(content).hexdigest()) != digest:
            return False
    return True
