"""The OpenAI chat interface as it goes over the wire: the body of a request, and a streamed answer put together. [pure]

What a server streams is read as strictly as anything from outside: lines, events and text are bounded, and an answer
is whole only when the server said why it ended and that it did. A stream that stops earlier is no answer, however
much of it looks like one.
"""

from typing import Any, Final

import msgspec

__all__ = ["TEXT_MAX", "BadStream", "Prepared", "Reply", "StreamReader", "Usage", "body_of", "error_of", "whole_reply"]

LINE_MAX: Final = 1024 * 1024
TEXT_MAX: Final = 1024 * 1024
_END: Final = "[DONE]"


class BadStream(Exception):
    """The answer is no answer: cut short, not in the interface's shape, or longer than is taken."""


class Prepared(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request that was checked, its images made small. The texts have `text_bytes` bytes together."""

    messages: list[dict[str, Any]]
    text_bytes: int
    images: int = 0
    max_tokens: int | None = None
    temperature: float | None = None


class Usage(msgspec.Struct, frozen=True):
    """What the server counted."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Reply(msgspec.Struct, frozen=True):
    """A whole answer. Without `usage` the server did not count."""

    text: str
    finish_reason: str
    model: str
    usage: Usage | None = None


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    message: _Delta | None = None
    finish_reason: str | None = None
    index: int = 0


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: Usage | None = None
    model: str = ""
    error: Any = None


_chunks: Final = msgspec.json.Decoder(_Chunk)


def body_of(prepared: Prepared, *, model: str, max_tokens: int) -> bytes:
    """The request's body. The server is asked to stream, and to count at the end."""
    body: dict[str, Any] = {
        "model": model,
        "messages": prepared.messages,
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if prepared.temperature is not None:
        body["temperature"] = prepared.temperature
    return msgspec.json.encode(body)


class StreamReader:
    """`feed()` it the body as it comes; `reply()` once it has ended. Both raise BadStream."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[str] = []
        self._parts: list[str] = []
        self._length = 0
        self._finish: str | None = None
        self._usage: Usage | None = None
        self._model = ""
        self.ended = False

    @property
    def begun(self) -> bool:
        """Whether a first word has come."""
        return self._length > 0 or self._finish is not None

    @property
    def characters(self) -> int:
        """How much text has come."""
        return self._length

    def feed(self, piece: bytes) -> None:
        """Take the next bytes, cut anywhere."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > LINE_MAX:
            raise BadStream("a line of the stream is too long")
        for line in lines:
            self._line(line.removesuffix(b"\r"))

    def reply(self) -> Reply:
        """The whole answer."""
        if self._finish is None or not self.ended:
            raise BadStream("the stream was cut before its end")
        return Reply("".join(self._parts), self._finish, self._model, self._usage)

    def _line(self, line: bytes) -> None:
        if self.ended:
            return
        if not line:
            data, self._data = "\n".join(self._data), []
            if data:
                self._event(data)
        elif line.startswith(b"data:"):
            try:
                self._data.append(line[5:].removeprefix(b" ").decode())
            except UnicodeDecodeError:
                raise BadStream("the stream is not UTF-8") from None
            if sum(map(len, self._data)) > LINE_MAX:
                raise BadStream("an event of the stream is too long")

    def _event(self, data: str) -> None:
        if data == _END:
            self.ended = True
            return
        chunk = _decoded(data.encode())
        self._model = chunk.model[:200] or self._model
        self._usage = chunk.usage or self._usage
        for choice in chunk.choices:
            if choice.index != 0:
                continue
            if choice.delta.content:
                self._length += len(choice.delta.content)
                if self._length > TEXT_MAX:
                    raise BadStream("the answer is longer than is taken")
                self._parts.append(choice.delta.content)
            self._finish = choice.finish_reason or self._finish


def whole_reply(body: bytes) -> Reply:
    """The answer of a server that does not stream. Raises BadStream."""
    chunk = _decoded(body)
    choice = next((one for one in chunk.choices if one.index == 0), None)
    if choice is None or choice.message is None or choice.finish_reason is None:
        raise BadStream("the answer holds no message")
    text = choice.message.content or ""
    if len(text) > TEXT_MAX:
        raise BadStream("the answer is longer than is taken")
    return Reply(text, choice.finish_reason, chunk.model[:200], chunk.usage)


def error_of(body: bytes) -> tuple[str, str]:
    """The code and the sentence of an error's body; empty where it says none."""
    try:
        error = msgspec.json.decode(body)["error"]
        if isinstance(error, str):
            return "", error
        return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")
    except (msgspec.DecodeError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", ""


def _decoded(data: bytes) -> _Chunk:
    try:
        chunk = _chunks.decode(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise BadStream("an event of the stream is not what the interface says") from None
    if chunk.error is not None:
        code, message = error_of(data)
        raise BadStream(f"the server broke off: {code or message or 'without a reason'}"[:300])
    if chunk.usage is not None and (chunk.usage.prompt_tokens < 0 or chunk.usage.completion_tokens < 0):
        raise BadStream("the server counted tokens below nothing")
    return chunk
