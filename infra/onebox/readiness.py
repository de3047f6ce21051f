"""Asking a process of ours whether it is ready, over its operations port, with nothing but the standard library."""

import asyncio
import contextlib
from typing import Final

from infra.onebox.ports import HOST

__all__ = ["ask", "ready_status", "wait_ready"]

ASK_EVERY_S: Final = 0.05
_ANSWER_DEADLINE_S: Final = 2.0
_ANSWER_MAX: Final = 16 * 1024


async def ready_status(port: int, *, path: str = "/ready") -> tuple[int, str]:
    """The HTTP status and the body, or (0, what went wrong)."""
    return await ask(port, path)


async def ask(port: int, path: str, *, token: str | None = None, answer_max: int = _ANSWER_MAX) -> tuple[int, str]:
    """The same for any path of an operations port. An answer of more than `answer_max` bytes is cut off there."""
    bearer = f"Authorization: Bearer {token}\r\n" if token else ""
    try:
        async with asyncio.timeout(_ANSWER_DEADLINE_S):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                request = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\n{bearer}Connection: close\r\n\r\n"
                writer.write(request.encode())
                answer = await _read_all(reader, answer_max)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except TimeoutError:
        return 0, "no answer"
    except OSError as error:
        return 0, str(error.strerror or error)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 2 or not words[1].isdigit():
        return 0, "not an HTTP answer"
    return int(words[1]), body.decode("utf-8", "replace").strip()


async def _read_all(reader: asyncio.StreamReader, answer_max: int) -> bytes:
    answer = b""
    while len(answer) < answer_max and (part := await reader.read(answer_max - len(answer))):
        answer += part
    return answer


async def wait_ready(port: int) -> None:
    """Return when the process says that it is ready. The caller has the deadline."""
    while (await ready_status(port))[0] != 200:  # noqa: ASYNC110 - there is no event to wait for across processes
        await asyncio.sleep(ASK_EVERY_S)
