"""What `fleetwire doctor` sees of the server that carries hints of jobs, where it is another than Redis of the bus."""

from random import SystemRandom
from typing import Final, Literal
from urllib.parse import urlsplit

from shared.bus.redis_client import REDIS_ERRORS, LazyRedis
from shared.job_kinds import QUEUES

__all__ = ["look_at_hints"]

_MEND: Final = "jobs begin later without it; start it, or mend FLEETWIRE_QUEUE_URL"
_DEADLINE_S: Final = 4.0


async def look_at_hints(url: str | None) -> list[tuple[Literal["good", "bad"], str, str]]:
    """Findings: verdict, what, how to mend it. None where Redis carries hints beside everything else."""
    if url is None:
        return []
    try:
        if urlsplit(url).scheme in ("amqp", "amqps"):
            return [("good", await _rabbit(url), "")]
        return [("good", await _redis(url), "")]
    except ValueError as error:
        return [("bad", f"FLEETWIRE_QUEUE_URL {error}", "mend it")]
    except ConnectionError as error:
        return [("bad", f"hints of jobs: {error}"[:400], _MEND)]


async def _redis(url: str) -> str:
    lazy = LazyRedis(url, deadline_s=_DEADLINE_S / 2, ask_s=_DEADLINE_S / 2, connections=2, name="doctor")
    try:
        await (await lazy.get()).exists("fw:doctor")
    except REDIS_ERRORS as error:
        raise ConnectionError(f"{lazy!r}: {error}") from None
    finally:
        await lazy.aclose()
    return "hints of jobs go by a Redis of their own, which answers"


async def _rabbit(url: str) -> str:
    from shared.rabbit.address import RabbitAddress
    from shared.rabbit.link import RABBIT_ERRORS, open_link

    address = RabbitAddress.from_url(url)
    counts = []
    try:
        async with await open_link(address, name="doctor", deadline_s=_DEADLINE_S, rand=SystemRandom()) as link:
            for queue in QUEUES:
                found = (await link.queue(queue)).declaration_result
                counts.append(f"{queue} {found.message_count} waiting, {found.consumer_count} listening")
    except RABBIT_ERRORS as error:
        raise ConnectionError(f"{address}: {error}") from None
    return f"hints of jobs go by RabbitMQ on {address}: {'; '.join(counts)}"
