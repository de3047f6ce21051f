"""One request to a model's server and its streamed answer, each step with a deadline.

`connect_s` for the connection, `first_s` until the first word, `silence_s` between two pieces, `whole_s` for all.
Whoever cancels closes the connection, which tells the server to stop. Redirects are not followed: the key goes to
the address that it was meant for. A server that asked to be left alone is not asked by anybody here until then.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import urlsplit

import httpx

from shared.clock import monotonic
from shared.telemetry.health import is_loopback
from worker.handlers.model.rules import Meaning, judge, pause_of, redacted
from worker.handlers.model.wire import BadStream, Reply, StreamReader, error_of, whole_reply

__all__ = ["Deadlines", "ModelAway", "ModelBroken", "ModelClient", "ModelRefused"]

_ERROR_MAX: Final = 64 * 1024
_ANSWER_MAX: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds."""

    connect_s: float = 5.0
    first_s: float = 60.0
    silence_s: float = 20.0
    whole_s: float = 150.0


class ModelAway(Exception):
    """The server cannot be asked now. `may_cost`: it may have computed an answer that was not handed over."""

    def __init__(self, detail: str, *, after_s: float = 0.0, may_cost: bool = False) -> None:
        super().__init__(detail)
        self.after_s = after_s
        self.may_cost = may_cost


class ModelRefused(Exception):
    """The server will not answer this request, or none of ours."""

    def __init__(self, detail: str, meaning: Meaning) -> None:
        super().__init__(detail)
        self.meaning = meaning


class ModelBroken(Exception):
    """The answer broke off, or did not come in time. It may have cost what a whole one does."""


class ModelClient:
    """`url` is the interface's base, as in https://host/v1."""

    def __init__(
        self,
        url: str,
        key: str,
        *,
        deadlines: Deadlines,
        connections: int = 64,
        time: Callable[[], float] = monotonic,
    ) -> None:
        self._url = f"{url.rstrip('/')}/chat/completions"
        self._key = key
        self._deadlines = deadlines
        self._time = time
        self._left_alone_until = 0.0
        direct = is_loopback(urlsplit(url).hostname or "")
        self._http = httpx.AsyncClient(
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=8, keepalive_expiry=20),
            headers={"Accept-Encoding": "identity", "User-Agent": "fleetwire"},
            trust_env=not direct,
            follow_redirects=False,
            timeout=None,  # noqa: S113 - the steps have their own, below
        )

    def __repr__(self) -> str:
        return f"ModelClient({self._url})"

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, body: bytes, *, within_s: float) -> Reply:
        """The whole answer. Raises ModelAway, ModelRefused, ModelBroken."""
        if (pause_s := self._left_alone_until - self._time()) > 0:
            raise ModelAway("the model's server asked to be left alone for a while", after_s=pause_s)
        limits = self._deadlines
        try:
            async with asyncio.timeout(min(within_s, limits.whole_s)):
                return await self._asked(body)
        except TimeoutError:
            raise ModelBroken(f"the model did not end its answer within {limits.whole_s:g} s") from None
        except BadStream as error:
            raise ModelBroken(redacted(str(error), self._key)) from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise ModelAway(f"the model's server cannot be reached ({type(error).__name__})") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError) as error:
            detail = f"the model's address or key cannot be used ({type(error).__name__})"
            raise ModelRefused(detail, Meaning.SET_UP) from None
        except (httpx.HTTPError, OSError) as error:
            raise ModelBroken(f"the model's answer broke off ({type(error).__name__})") from None

    async def _asked(self, body: bytes) -> Reply:
        limits = self._deadlines
        first_at = self._time() + limits.first_s
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        timeout = httpx.Timeout(None, connect=limits.connect_s, pool=limits.connect_s, write=limits.silence_s)
        request = self._http.build_request("POST", self._url, content=body, headers=headers, timeout=timeout)
        try:
            async with asyncio.timeout(limits.connect_s + limits.first_s):
                answer = await self._http.send(request, stream=True)
        except TimeoutError:
            raise ModelBroken(f"the model did not begin to answer within {limits.first_s:g} s") from None
        try:
            if answer.status_code != 200:
                await self._refused(answer)
            if answer.headers.get("content-type", "").startswith("application/json"):
                return whole_reply(await _bounded(answer, _ANSWER_MAX))
            return await self._streamed(answer, first_at)
        finally:
            await answer.aclose()

    async def _streamed(self, answer: httpx.Response, first_at: float) -> Reply:
        reader = StreamReader()
        async with aclosing(self._pieces(answer, reader, first_at)) as pieces:
            async for piece in pieces:
                reader.feed(piece)
                if reader.ended:
                    break
        return reader.reply()

    async def _pieces(
        self, answer: httpx.Response, reader: StreamReader, first_at: float
    ) -> AsyncGenerator[bytes, None]:
        """The body as it comes. Comments that only keep the line open count as pieces, never as the first word."""
        source = answer.aiter_raw()
        while True:
            left_s = self._deadlines.silence_s if reader.begun else max(0.0, first_at - self._time())
            try:
                async with asyncio.timeout(left_s):
                    piece = await anext(source, None)
            except TimeoutError:
                said = "fell silent" if reader.begun else "did not begin to answer"
                raise ModelBroken(f"the model {said} for longer than is waited") from None
            if piece is None:
                return
            yield piece

    async def _refused(self, answer: httpx.Response) -> NoReturn:
        async with asyncio.timeout(self._deadlines.silence_s):
            code, message = error_of(await _bounded(answer, _ERROR_MAX))
        verdict = judge(answer.status_code, code)
        said = redacted(f"{code} {message}", self._key)
        detail = f"the model's server answered {answer.status_code}{f': {said}' if said else ''}"
        if verdict.meaning is not Meaning.AGAIN:
            raise ModelRefused(detail, verdict.meaning)
        after_s = pause_of(answer.headers.get("retry-after"), answer.headers.get("retry-after-ms"))
        self._left_alone_until = max(self._left_alone_until, self._time() + after_s)
        raise ModelAway(detail, after_s=after_s, may_cost=verdict.may_cost)


async def _bounded(answer: httpx.Response, most: int) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > most:
            raise BadStream("the answer is longer than is taken")
    return bytes(body)
