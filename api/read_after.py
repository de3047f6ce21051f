"""Reading what one has written, over the network: `Fleetwire-Wrote` with an answer, `Fleetwire-Read-After` with a read.

Only an API that reads from copies gives a token; it takes one always. Answers to writes have it, also those that show
the state a write ran into (409, 412): a list read next must not be older than that either.
"""

from typing import Final

from starlette.responses import Response

from api.inputs import Headers
from api.problems import Problem
from shared.store.read_token import InvalidToken, ReadToken, parse_token
from shared.store.replicas import Replicas

__all__ = ["WROTE", "read_after", "stamp", "stamp_problem"]

WROTE: Final = "Fleetwire-Wrote"
_READ_AFTER: Final = b"fleetwire-read-after"
_SHOW_STATE: Final = frozenset({409, 412})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


def read_after(headers: Headers) -> ReadToken | None:
    """The token that a request names. Raises Problem (400)."""
    given = headers.get(_READ_AFTER, [])
    if not given:
        return None
    try:
        if len(given) > 1:
            raise InvalidToken
        return parse_token(given[0].decode("latin-1"))
    except InvalidToken as error:
        raise Problem("invalid-parameter", f"Fleetwire-Read-After {error}", field="Fleetwire-Read-After") from None


async def stamp(replicas: Replicas | None, method: str, response: Response) -> None:
    """Give the token with the answer to a write."""
    if replicas and method not in _READS and response.status_code < 500:
        response.headers[WROTE] = str(await replicas.wrote())


async def stamp_problem(replicas: Replicas | None, method: str, problem: Problem) -> None:
    """Give it with a problem that shows the state of something."""
    if replicas and method not in _READS and problem.kind.status in _SHOW_STATE:
        problem.headers[WROTE] = str(await replicas.wrote())
