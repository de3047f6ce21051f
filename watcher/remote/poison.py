"""Which items of a step the database will not take, found by trying parts of it [pure].

A step is one transaction, and a cursor moves only with all of it; so an item that Postgres refuses however often it is
tried would hold up its feed for good. Halves are tried, and taken back, until the items that are at fault stand alone.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence

Tries = Callable[[Collection[str]], Awaitable[str | None]]
"""Try a step with these items only, and take it back: None, or what was said against it."""


async def poisoned(items: Sequence[str], tries: Tries) -> dict[str, str]:
    """The items that are refused by themselves, with the reason; at most two tries for each item of the step.

    Of those that are refused only together none is named: who asks has to say so and to try again later.
    """
    found: dict[str, str] = {}
    parts = [list(items)]
    while parts:
        part = parts.pop()
        if not part or (reason := await tries(part)) is None:
            continue
        if len(part) == 1:
            found[part[0]] = reason
        else:
            half = len(part) // 2
            parts += [part[half:], part[:half]]
    return found
