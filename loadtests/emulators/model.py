"""A model's server by the OpenAI chat interface, for clients: it streams, counts, bills and fails by script.

Its answer is the word "word" as often as `max_tokens` says. It counts a request's tokens as its bytes and what frames
the messages, which is the most that any real one does, and bills every call it began to compute, heard or not.
Faults of the call `chat` happen around it (status, cut_answer, hang, delay); one of the call `stream` with the kind
`hang` lets it fall silent in the middle of an answer.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from loadtests.emulators.faults import Fault, FaultScript, FaultyWire
from loadtests.emulators.serving import serving

__all__ = ["FRAME_TOKENS", "EmulatedModel"]

FRAME_TOKENS: Final = 16
_WORDS_A_CHUNK: Final = 8


@dataclass
class EmulatedModel:
    """`app` is what is served; `billed` what its operator would ask money for."""

    key: str = "sk-emulated-0123456789"
    image_tokens: int = 100
    chunk_s: float = 0.0
    counts: bool = True
    """Whether it says at the end what it counted."""
    streams: bool = True
    script: FaultScript = field(default_factory=FaultScript)
    billed: list[tuple[int, int]] = field(default_factory=list)
    """Tokens in and out of each call that was begun."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    under_way: int = 0
    refused: list[int] = field(default_factory=list)
    """Statuses that the script had answered instead of an answer."""

    def __post_init__(self) -> None:
        inner = Starlette(routes=[Route("/v1/chat/completions", self._chat, methods=["POST"])])
        self.wire = FaultyWire(inner, self.script, name=lambda _: "chat", answer=self._error_of)

    @property
    def app(self) -> ASGIApp:
        """With its faults."""
        return self.wire

    def _error_of(self, fault: Fault) -> ASGIApp:
        self.refused.append(fault.status)
        headers = {"Retry-After": fault.retry_after} if fault.retry_after is not None else None
        return _refused(fault.status, fault.reason or f"error_{fault.status}", "scripted", headers)

    async def _chat(self, request: Request) -> Response:
        if request.headers.get("authorization") != f"Bearer {self.key}":
            said = f"Incorrect API key provided: {request.headers.get('authorization', '')[7:]}."
            return _refused(401, "invalid_api_key", said)
        try:
            body = json.loads(await request.body())
            tokens_in = _tokens_of(body["messages"], self.image_tokens)
            most = int(body["max_tokens"])
            str(body["model"])
        except (ValueError, KeyError, TypeError):
            return _refused(400, "invalid_request_error", "the body is not as the interface has it")
        if len(self.asked) < 10_000:
            self.asked.append(body)
        self.billed.append((tokens_in, most))
        usage = {"prompt_tokens": tokens_in, "completion_tokens": most, "total_tokens": tokens_in + most}
        if not self.streams:
            message = {"role": "assistant", "content": "word " * most}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            return JSONResponse({"model": body["model"], "choices": [choice], "usage": usage})
        return StreamingResponse(self._stream(body, most, usage), media_type="text/event-stream")

    async def _stream(self, body: dict[str, Any], most: int, usage: dict[str, int]) -> AsyncIterator[bytes]:
        silent = self.script.take("stream")
        self.under_way += 1
        try:
            yield _event({"model": body["model"], "choices": [{"index": 0, "delta": {"role": "assistant"}}]})
            for n in range(0, most, _WORDS_A_CHUNK):
                text = "word " * min(_WORDS_A_CHUNK, most - n)
                yield _event({"model": body["model"], "choices": [{"index": 0, "delta": {"content": text}}]})
                await asyncio.sleep(self.chunk_s)
                if silent is not None and n == 0:
                    await asyncio.sleep(silent.delay_s)
            yield _event({"model": body["model"], "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            if self.counts:
                yield _event({"model": body["model"], "choices": [], "usage": usage})
            yield b"data: [DONE]\n\n"
        finally:
            self.under_way -= 1


def _tokens_of(messages: list[dict[str, Any]], image_tokens: int) -> int:
    tokens = FRAME_TOKENS * (len(messages) + 1)
    for message in messages:
        content = message["content"]
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            tokens += len(part["text"].encode()) if part["type"] == "text" else image_tokens
    return tokens


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _refused(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": {"code": code, "type": code, "message": message}}, status, headers)


async def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m loadtests.emulators.model", description=__doc__)
    parser.add_argument("--port", type=int, default=8400)
    parser.add_argument("--key", default="sk-emulated-0123456789")
    given = parser.parse_args()
    async with serving(EmulatedModel(key=given.key).app, port=given.port) as address:
        print(f"FLEETWIRE_MODEL_URL={address}/v1 FLEETWIRE_MODEL_KEY={given.key}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
