"""The model handler: a request made ready in a process, money put aside, the model asked, the answer written.

What may have cost something is not repeated by this attempt. An answer that was paid for is kept with its call, so an
attempt that died after it is followed by one that finds it. Without a key the device hears so at once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final
from uuid import UUID

import msgspec
import structlog

from shared.backoff import full_jitter
from shared.clock import monotonic, wall
from shared.cloud.threads import FileThreads
from shared.protocol.ids import time_ordered_uuid
from shared.store import model_usage
from shared.store.errors import StoreError
from shared.store.model_usage import Budgets, Settlement
from shared.store.pool import Pool
from shared.telemetry.metrics import MODEL_CALLS, MODEL_COST, MODEL_REFUSED, MODEL_SECONDS, MODEL_TOKENS
from worker.errors import HandlerTimedOut
from worker.handlers.async_contract import Context, TryAgain
from worker.handlers.contract import DETAIL_MAX_CHARS, Answer, Outcome, ResponseFile, Task
from worker.handlers.model.client import ModelAway, ModelBroken, ModelClient, ModelRefused
from worker.handlers.model.prices import Prices, shown
from worker.handlers.model.rules import Meaning
from worker.handlers.model.wire import Prepared, Reply, Usage, body_of
from worker.handlers.model_input import REQUEST_FILE, ModelInputHandler

__all__ = ["ModelHandler", "ModelPlan"]

_log = structlog.get_logger(__name__)

_PREPARED_MAX: Final = 32 * 1024 * 1024
_TRIES: Final = 3
_PAUSE_S: Final = 0.5
_SETTLE_S: Final = 5.0
_REASONS: Final[dict[Meaning, tuple[Outcome, str]]] = {
    Meaning.SET_UP: ("unavailable", "the model cannot be used by this installation; its operator has to look at it"),
    Meaning.TOO_LARGE: ("too_large", "the request is longer than the model takes"),
    Meaning.REFUSED: ("unsupported", "the model does not take this request"),
}


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """What may be asked for and spent. A request that names no `max_tokens`, or more, gets these."""

    name: str
    max_tokens: int
    prices: Prices
    budgets: Budgets


@dataclass(frozen=True, slots=True)
class _Paid:
    reply: Reply
    usage: Usage
    micros: int
    estimated: bool


class ModelHandler:
    """Without `client`, there is no key."""

    kind = "model"
    extensions = frozenset({".prompt", ".chat"})

    def __init__(
        self,
        pool: Pool,
        threads: FileThreads,
        client: ModelClient | None,
        plan: ModelPlan,
        *,
        rand: Random,
        sleep: Callable[[float], Awaitable[Any]] = asyncio.sleep,
    ) -> None:
        self._pool = pool
        self._threads = threads
        self._client = client
        self._plan = plan
        self._rand = rand
        self._sleep = sleep
        self._settling: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for what is being settled."""
        if self._settling:
            await asyncio.wait(self._settling, timeout=_SETTLE_S)

    async def handle(self, task: Task, context: Context) -> Answer:
        """answer.txt, or what was in the way."""
        if self._client is None:
            return Answer(
                "unavailable", "this installation has no key for a model; its operator can set FLEETWIRE_MODEL_KEY"
            )
        if (earlier := await model_usage.answered(self._pool, context.job_id)) is not None:
            reply = msgspec.json.decode(earlier.answer, type=Reply)
            usage = Usage(earlier.tokens_in, earlier.tokens_out)
            return await self._written(task, _Paid(reply, usage, earlier.cost_micros, reply.usage is None))
        processed = await context.process(ModelInputHandler.kind)
        if processed.answer.outcome != "processed":
            return processed.answer
        prepared = await self._threads.run("", _read, processed.folder / REQUEST_FILE)
        plan = self._plan
        max_tokens = min(prepared.max_tokens or plan.max_tokens, plan.max_tokens)
        most = plan.prices.most(prepared, max_tokens)
        call_id = time_ordered_uuid(wall(), self._rand)
        refused = await model_usage.reserve(
            self._pool,
            call_id,
            job_id=context.job_id,
            device_id=context.device_id,
            micros=plan.prices.cost(most),
            budgets=plan.budgets,
        )
        if refused is not None:
            MODEL_REFUSED.labels(refused).inc()
            whose = "of this device" if refused == "device" else "of all devices together"
            detail = f"the budget {whose} for model calls has no room for this one today; a new day begins at 00:00 UTC"
            _log.warning("model budget spent", budget=refused)
            return Answer("over_budget", detail)
        body = body_of(prepared, model=plan.name, max_tokens=max_tokens)
        paid = await self._paid(self._client, call_id, body, most, context)
        return paid if isinstance(paid, Answer) else await self._written(task, paid)

    async def _paid(
        self, client: ModelClient, call_id: UUID, body: bytes, most: Usage, context: Context
    ) -> _Paid | Answer:
        """Ask, and settle in every case. An answer that says no has cost nothing."""
        ending = Settlement("unknown")
        began = monotonic()
        try:
            reply = await self._asked(client, body, context)
            usage = reply.usage or Usage(most.prompt_tokens, min(most.completion_tokens, len(reply.text.encode())))
            paid = _Paid(reply, usage, self._plan.prices.cost(usage), reply.usage is None)
            kept = msgspec.json.encode(reply).decode()
            ending = Settlement("answered", usage.prompt_tokens, usage.completion_tokens, paid.micros, kept)
            return paid
        except ModelRefused as error:
            ending = Settlement("free")
            _log.warning("model refused", reason=str(error), meaning=error.meaning.value)
            outcome, sentence = _REASONS[error.meaning]
            told = sentence if error.meaning is Meaning.SET_UP else f"{sentence}: {error}"
            return Answer(outcome, told[:DETAIL_MAX_CHARS])
        except ModelAway as error:
            ending = Settlement("unknown" if error.may_cost else "free")
            raise TryAgain(str(error), after_s=error.after_s) from None
        except ModelBroken as error:
            raise HandlerTimedOut(str(error)) from None
        finally:
            MODEL_SECONDS.observe(monotonic() - began)
            await self._settle(call_id, ending)

    async def _asked(self, client: ModelClient, body: bytes, context: Context) -> Reply:
        """A few tries while a server is away for a moment; none again of what may have been computed."""
        for number in range(_TRIES):
            try:
                return await client.ask(body, within_s=context.remaining_s())
            except ModelAway as error:
                pause_s = error.after_s + full_jitter(number, self._rand, base=_PAUSE_S, cap=8.0)
                if error.may_cost or number == _TRIES - 1 or pause_s > context.remaining_s() / 4:
                    raise
                _log.info("model asked again", reason=str(error), in_s=round(pause_s, 2))
            await self._sleep(pause_s)
        raise AssertionError("the last try returns or raises")

    async def _settle(self, call_id: UUID, ending: Settlement) -> None:
        """Also when we are cancelled: the money that was put aside is not ours to keep."""
        settling = asyncio.create_task(self._settled(call_id, ending), name="model-settle")
        self._settling.add(settling)
        settling.add_done_callback(self._settling.discard)
        await asyncio.shield(settling)

    async def _settled(self, call_id: UUID, ending: Settlement) -> None:
        MODEL_CALLS.labels(ending.outcome).inc()
        MODEL_TOKENS.labels("in").inc(ending.tokens_in)
        MODEL_TOKENS.labels("out").inc(ending.tokens_out)
        try:
            async with asyncio.timeout(_SETTLE_S):
                cost = await model_usage.settle(self._pool, call_id, ending)
        except (StoreError, TimeoutError) as error:
            # It stays put aside, and is counted as spent when it is found to be nobody's.
            _log.warning("cost of a model call not written", call_id=str(call_id), error=str(error))
        else:
            MODEL_COST.inc((cost or 0) / 1_000_000)

    async def _written(self, task: Task, paid: _Paid) -> Answer:
        await self._threads.run("", (task.output / "answer.txt").write_text, paid.reply.text, "utf-8")
        summary: dict[str, Any] = {
            "model": paid.reply.model or self._plan.name,
            "finish_reason": paid.reply.finish_reason[:64],
            "tokens_in": paid.usage.prompt_tokens,
            "tokens_out": paid.usage.completion_tokens,
            "cost": shown(paid.micros),
            "estimated": paid.estimated,
        }
        detail = "the answer ends where its length was bounded" if paid.reply.finish_reason == "length" else None
        return Answer("processed", detail, (ResponseFile("answer.txt", "text/plain; charset=utf-8"),), summary)


def _read(path: Path) -> Prepared:
    size = path.stat().st_size
    if size > _PREPARED_MAX:
        raise ValueError(f"a prepared request of {size} bytes")
    return msgspec.json.decode(path.read_bytes(), type=Prepared)
