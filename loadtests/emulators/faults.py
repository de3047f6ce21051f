"""What is to go wrong at an emulated provider: a script of faults, each for some calls, some times or at a rate.

A provider's emulator names each request's call (`changes.list`, `upload.put`, …) and asks the script. Faults of the
wire are done here, around the application: cut before the request was read, after k bytes of it, after its effect but
before the answer, or after k bytes of the answer; delay; an answer that never comes.
"""

import asyncio
import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Fault", "FaultScript", "FaultyWire", "Kind"]

Kind = Literal["status", "cut_request", "lose_answer", "cut_answer", "delay", "hang"]


@dataclass
class Fault:
    """One line of the script."""

    call: str
    """The call it is for, with `*` for any part of it. Never `control`: that is the test's own hand on the emulator."""
    kind: Kind = "status"
    times: int = 1
    """How often it happens; it is gone then."""
    skip: int = 0
    """How many such calls pass before."""
    rate: float = 1.0
    """How likely it happens to a call that it is for."""
    status: int = 503
    reason: str = ""
    """The provider's own word for it, where the status alone does not say it."""
    retry_after: str | None = None
    after_bytes: int = 0
    delay_s: float = 0.0


@dataclass
class FaultScript:
    """The faults that are left. Reproducible: the same seed and the same calls give the same faults."""

    seed: int = 0
    faults: list[Fault] = field(default_factory=list)
    happened: list[tuple[str, str]] = field(default_factory=list)
    """What happened: call and kind."""

    def __post_init__(self) -> None:
        self._random = Random(self.seed)

    def add(self, *faults: Fault) -> None:
        """More of them."""
        self.faults.extend(faults)

    def clear(self) -> None:
        """No more of them."""
        self.faults.clear()

    def take(self, call: str) -> Fault | None:
        """The fault that happens to this call, if one does."""
        for fault in self.faults:
            if not fnmatch.fnmatchcase(call, fault.call) or call == "control":
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.rate < 1.0 and self._random.random() >= fault.rate:
                continue
            fault.times -= 1
            if fault.times <= 0:
                self.faults.remove(fault)
            if len(self.happened) < 100_000:
                self.happened.append((call, fault.kind))
            return fault
        return None


class FaultyWire:
    """The application with the faults of its script. `answer` writes a provider's own error for a `status` fault."""

    def __init__(
        self,
        app: ASGIApp,
        script: FaultScript,
        *,
        name: Callable[[Scope], str],
        answer: Callable[[Fault], ASGIApp],
    ) -> None:
        self._app = app
        self._script = script
        self._name = name
        self._answer = answer
        self.released = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = self._script.take(self._name(scope)) if scope["type"] == "http" else None
        match fault and fault.kind:
            case None:
                await self._app(scope, receive, send)
            case "status":
                assert fault is not None
                # Who answers before it has read may never be heard: the client is still busy sending.
                await _drain(receive)
                await self._answer(fault)(scope, receive, send)
            case "delay":
                assert fault is not None
                await asyncio.sleep(fault.delay_s)
                await self._app(scope, receive, send)
            case "hang":
                await self.released.wait()
                _cut(send)
            case "lose_answer":
                await self._app(scope, receive, _swallow)
                _cut(send)
            case "cut_request":
                assert fault is not None
                await self._app(scope, _cutting_receive(receive, send, fault.after_bytes), _swallow)
                _cut(send)
            case "cut_answer":
                assert fault is not None
                await self._app(scope, receive, _cutting_send(send, fault.after_bytes))
            case _:
                raise AssertionError("a kind of fault that nobody does")


def _cut(send: Send) -> None:
    # uvicorn's `send` is a method of the cycle that has the connection; there is no other way to it.
    transport: Any = send.__self__.transport  # type: ignore[attr-defined]
    transport.abort()


async def _drain(receive: Receive) -> None:
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


async def _swallow(_: Message) -> None:
    return None


def _cutting_receive(receive: Receive, send: Send, left: int) -> Receive:
    """The first `left` bytes of the request's body; then the connection is gone."""

    async def received() -> Message:
        nonlocal left
        if left <= 0:
            _cut(send)
            return {"type": "http.disconnect"}
        message = await receive()
        if message["type"] != "http.request":
            return message
        body = message.get("body", b"")
        if len(body) < left:
            left -= len(body)
            return message
        body, left = body[:left], 0
        return {"type": "http.request", "body": body, "more_body": True}

    return received


def _cutting_send(send: Send, left: int) -> Send:
    """The first `left` bytes of the answer's body; then the connection is gone."""

    async def sent(message: Message) -> None:
        nonlocal left
        if left < 0:
            return
        if message["type"] == "http.response.body":
            body = message.get("body", b"")
            if len(body) >= left:
                await send({"type": "http.response.body", "body": body[:left], "more_body": True})
                left = -1
                # What was written goes out first; the answer ends too early all the same.
                send.__self__.transport.close()  # type: ignore[attr-defined]
                return
            left -= len(body)
        await send(message)

    return sent
