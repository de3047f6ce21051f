"""Model calls of which 30 % go wrong: too many (429), a server's failure (500), a cut stream, a minute of silence.

Workers on a Postgres and a Valkey of their own ask an emulated model, which bills every call that it began to compute.
Every request must end with its answer and one event, whatever happened to its calls; only what may have been computed
counts as an attempt; no call may last longer than its deadlines say; and what Postgres holds as spent must be what the
emulator bills. Then budgets for a part of the requests, with the same faults: spent to the last millionth, never more,
and the others are told.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import uvloop
from rich.console import Console
from rich.progress import Progress

from infra.onebox.spawn import launch_arguments
from loadtests.emulators.faults import Fault
from loadtests.emulators.model import FRAME_TOKENS, EmulatedModel
from loadtests.emulators.serving import serving
from loadtests.stand import Stand, child, running_stand
from shared.store import jobs, model_usage
from shared.store.jobs import InlineJob
from shared.store.pool import Pool, open_pool

__all__ = ["Outcome", "main"]

RESULTS: Final = Path(__file__).parent / "results"
QUEUE: Final = "ai"
_DEVICES: Final = 8
_TEXT: Final = "request {:06d}"
_OUT: Final = 40
_PRICE_IN: Final = 3
_PRICE_OUT: Final = 15
_CALL_MICROS: Final = _PRICE_IN * (len(_TEXT.format(0)) + 2 * FRAME_TOKENS) + _PRICE_OUT * _OUT
_SILENCE_S: Final = 2.0
_FIRST_S: Final = 5.0
_WHOLE_S: Final = 20.0
_LATE_S: Final = 2.0
"""How much later than its deadline a call may be settled, on a machine that is busy."""
_FAULTS: Final = ("429", "500", "cut", "silence")


@dataclass(frozen=True)
class Outcome:
    """What came of one run's requests. Money in millionths."""

    requests: int
    statuses: dict[str, int]
    outcomes: dict[str, int]
    events: int
    faults: dict[str, int]
    computed: int
    calls: dict[str, int]
    spent: int
    put_aside: int
    billed: int
    budget: int | None
    longest_call_s: float
    attempts_too_many: int
    seconds: float

    @property
    def problems(self) -> list[str]:
        """What did not hold."""
        expected = self.requests if self.budget is None else self.budget // _CALL_MICROS
        answered = self.outcomes.get("processed", 0)
        found = {
            "not every request ended with a response": self.statuses != {"done": self.requests},
            "not one event for each": self.events != self.requests,
            "a kind of fault did not happen": not all(self.faults.values()),
            "calls are not each answered once or counted as unknown": (
                self.calls.get("answered", 0) != answered or self.calls.get("unknown", 0) != self.computed - answered
            ),
            "spent is not what was billed": self.spent != self.billed,
            "money is still put aside": self.put_aside != 0,
            "a call lasted longer than its deadlines": self.longest_call_s > _WHOLE_S + _LATE_S,
            "attempts were counted that cost nothing": self.attempts_too_many != 0,
        }
        if self.budget is None:
            found["not every request was answered"] = self.outcomes != {"processed": expected}
        else:
            found["the budget was exceeded"] = self.spent > self.budget
            found["the budget was not spent to its end"] = self.budget - self.spent >= _CALL_MICROS
            rest = self.requests - answered
            found["somebody was not told"] = self.outcomes.get("over_budget", 0) != rest
        return [text for text, happened in found.items() if happened]


def _script(model: EmulatedModel, share: float) -> None:
    """Each call has this chance that something happens to it, all four kinds alike."""
    kinds = [
        Fault("chat", status=429, retry_after="1", reason="rate_limit_exceeded"),
        Fault("chat", status=500),
        Fault("chat", "cut_answer", after_bytes=600),
        Fault("stream", "hang", delay_s=60.0),
    ]
    left = 1.0
    for fault in kinds:
        fault.times = 10**9
        fault.rate = share / len(kinds) / left
        left -= share / len(kinds)
        model.script.add(fault)


def _worker(stand: Stand, number: int, address: str, key: str, budget: int | None) -> dict[str, str]:
    money = "1000" if budget is None else f"{budget // 10**6}.{budget % 10**6:06d}"
    for folder in ("cloud", "cloud-tmp"):
        (stand.folder / folder).mkdir(exist_ok=True)
    return {
        "PATH": os.environ["PATH"],
        "FLEETWIRE_DATABASE_URL": stand.postgres.url,
        "FLEETWIRE_REDIS_URL": stand.valkey.url,
        "FLEETWIRE_CLOUD_ROOT": str(stand.folder / "cloud"),
        "FLEETWIRE_CLOUD_TMP": str(stand.folder / "cloud-tmp"),
        "FLEETWIRE_OPS_PORT": "0",
        "FLEETWIRE_WORKER_OPS_PORT": "0",
        "FLEETWIRE_WORKER_NAME": f"ai-{number}",
        "FLEETWIRE_WORKER_QUEUES": QUEUE,
        "FLEETWIRE_WORKER_PROCESSES": "1",
        "FLEETWIRE_WORKER_CONCURRENCY": "16",
        "FLEETWIRE_WORKER_POLL_S": "0.2",
        "FLEETWIRE_WORKER_RETRY_BASE_S": "0.5",
        "FLEETWIRE_WORKER_MAX_ATTEMPTS": "12",
        "FLEETWIRE_MODEL_URL": f"{address}/v1",
        "FLEETWIRE_MODEL_KEY": key,
        "FLEETWIRE_MODEL_NAME": "emulated",
        "FLEETWIRE_MODEL_PRICE_IN": str(_PRICE_IN),
        "FLEETWIRE_MODEL_PRICE_OUT": str(_PRICE_OUT),
        "FLEETWIRE_MODEL_MAX_TOKENS": str(_OUT),
        "FLEETWIRE_MODEL_FIRST_S": str(_FIRST_S),
        "FLEETWIRE_MODEL_SILENCE_S": str(_SILENCE_S),
        "FLEETWIRE_MODEL_WHOLE_S": str(_WHOLE_S),
        "FLEETWIRE_MODEL_BUDGET_DEVICE": "1000",
        "FLEETWIRE_MODEL_BUDGET_ALL": money,
        "FLEETWIRE_LOG_LEVEL": "info",
    }


async def _enqueue(pool: Pool, requests: int) -> None:
    for number in range(requests):
        body = _TEXT.format(number)
        job_id, version = uuid4(), sha256(body.encode()).hexdigest()
        name = f"{number}.prompt"
        device = f"load-{number % _DEVICES}"
        where = ("local", f"Requests/{device}/{name}", name, len(body), version, body, "load")
        if await jobs.insert_inline(pool, InlineJob(job_id, QUEUE, "model", device, *where)) != "made":
            raise RuntimeError("a request was not queued")


async def _ended(pool: Pool, requests: int, progress: Progress, title: str, deadline_s: float) -> None:
    task = progress.add_task(title, total=requests)
    async with asyncio.timeout(deadline_s):
        ended = 0
        while ended < requests:
            await asyncio.sleep(0.3)
            rows = await pool.fetch("SELECT count(*) FROM jobs WHERE current_status IN ('done', 'dead', 'cancelled')")
            ended = rows[0][0]
            progress.update(task, completed=ended)


async def _judged(
    stand: Stand, pool: Pool, model: EmulatedModel, requests: int, budget: int | None, seconds: float
) -> Outcome:
    usage = await model_usage.usage(pool)
    rows = await pool.fetch("SELECT current_status, count(*) FROM jobs GROUP BY 1")
    calls = await pool.fetch("SELECT coalesce(outcome, 'open'), count(*) FROM model_calls GROUP BY 1")
    longest = await pool.fetch("SELECT max(extract(epoch FROM settled_at - reserved_at))::float8 FROM model_calls")
    events = await pool.fetch("SELECT count(*), count(DISTINCT (device_id, seq)) FROM events")
    # Beside the attempt that came to the end, one for each call that may have been computed and was not handed over.
    extra = await pool.fetch(
        "SELECT count(*) FROM jobs j WHERE j.attempts <> 1 + "
        "(SELECT count(*) FROM model_calls c WHERE c.job_id = j.job_id AND c.outcome = 'unknown')"
    )
    documents = [json.loads(file.read_bytes()) for file in (stand.folder / "cloud").rglob("response.json")]
    faults = dict.fromkeys(_FAULTS, 0) | Counter(map(str, model.refused))
    faults["silence"] = model.script.happened.count(("stream", "hang"))
    faults["cut"] = model.script.happened.count(("chat", "cut_answer"))
    return Outcome(
        requests=requests,
        statuses=dict(rows),
        outcomes=dict(Counter(document["outcome"] for document in documents)),
        events=events[0][0],
        faults=faults,
        computed=len(model.billed),
        calls=dict(calls),
        spent=usage.cost_micros if usage else 0,
        put_aside=usage.reserved_micros if usage else 0,
        billed=sum(_PRICE_IN * tokens_in + _PRICE_OUT * tokens_out for tokens_in, tokens_out in model.billed),
        budget=budget,
        longest_call_s=round(longest[0][0] or 0.0, 2),
        attempts_too_many=extra[0][0],
        seconds=round(seconds, 1),
    )


async def run(
    stand: Stand, progress: Progress, title: str, *, requests: int, workers: int, share: float, budget: int | None
) -> Outcome:
    """Queue the requests, let workers answer them, and look at everything."""
    model = EmulatedModel(chunk_s=0.01)
    _script(model, share)
    async with serving(model.app) as address:
        pool = await open_pool(stand.postgres.url, name="load", max_size=4)
        try:
            await _enqueue(pool, requests)
            began = time.monotonic()
            with ExitStack() as stack:
                for number in range(workers):
                    environment = _worker(stand, number, address, model.key, budget)
                    log = stand.folder / f"worker-{number}.log"
                    stack.enter_context(child(launch_arguments([sys.executable, "-m", "worker"]), log, environment))
                await _ended(pool, requests, progress, title, 60 + requests * 2)
                seconds = time.monotonic() - began
            return await _judged(stand, pool, model, requests, budget, seconds)
        finally:
            await pool.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run both, show, save."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.model_faults", description=__doc__)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--share", type=float, default=0.3, help="of calls that go wrong")
    options = parser.parse_args(arguments)
    console = Console()
    figures: dict[str, Any] = {"call_micros": _CALL_MICROS}
    held = True
    budget = (options.requests * 2 // 3) * _CALL_MICROS + _CALL_MICROS - 1
    for title, bound in (("no budget in the way", None), ("a budget for two thirds", budget)):
        with running_stand() as stand, Progress(console=console) as progress:
            asyncio.run(stand.make_devices([f"load-{number}" for number in range(_DEVICES)]))
            more = {"requests": options.requests, "workers": options.workers, "share": options.share}
            outcome = uvloop.run(run(stand, progress, title, **more, budget=bound))
        figures[title] = asdict(outcome) | {"problems": outcome.problems}
        held = held and not outcome.problems
        console.print(title, figures[title])
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"model_faults-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(figures, indent=1) + "\n")
    console.print(f"{'[green]passed' if held else '[red]FAILED'}[/], saved to {file}")
    return 0 if held else 1


if __name__ == "__main__":
    raise SystemExit(main())
