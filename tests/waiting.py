"""Waiting for what a test is about to see: a condition with a deadline, and words for when it does not come."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

_LOOKS_S: Final = 0.01


async def until(condition: Callable[[], Awaitable[Any]], what: str, *, deadline_s: float = 10.0) -> Any:
    """What the condition answers once it is true."""
    try:
        async with asyncio.timeout(deadline_s):
            while not (answer := await condition()):
                await asyncio.sleep(_LOOKS_S)
            return answer
    except TimeoutError:
        raise AssertionError(f"not within {deadline_s:g} s: {what}") from None


async def until_so(holds: Callable[[], Any], what: str, *, deadline_s: float = 20.0) -> Any:
    """The same for what can be seen without waiting."""

    async def looked() -> Any:
        return holds()

    return await until(looked, what, deadline_s=deadline_s)
