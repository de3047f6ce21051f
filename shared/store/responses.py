"""Responses of jobs: reserved before a file of them is written, complete in the transaction that ends the job.

The reservation is what makes writing repeatable: every attempt writes into the same folder, finds what an earlier one
left, and the watcher knows from the row that the files there are ours and announces none of them.
"""

from collections.abc import Callable, Sequence
from typing import Final, Literal, NamedTuple
from uuid import UUID

from shared.protocol.ids import safe_stem
from shared.store.pool import Connection
from shared.store.queries import statements

__all__ = [
    "TRANSACTION_STATEMENTS",
    "Completion",
    "Home",
    "NewFile",
    "Request",
    "Reserve",
    "complete",
    "folder_of",
    "reopen",
    "replace",
    "reserve",
]

_SQL = statements("responses")

_STEM_MAX_BYTES: Final = 150  # with the job's id below the 200 bytes of a name

TRANSACTION_STATEMENTS: Final = tuple(
    _SQL[name] for name in ("reserve", "reserved", "replace", "complete", "add_files")
)
"""What a worker's transactions run, for every connection to know before they hold locks."""


class Request(NamedTuple):
    """The request that a response is reserved for."""

    job_id: UUID
    device_id: str
    store: str
    name: str


class Home(NamedTuple):
    """Where a response goes: a store, and the folder in it."""

    response_id: UUID
    store: str
    folder: str


Reserve = Callable[[Request], Home]
"""Gives a response its id and its place."""


class Completion(NamedTuple):
    """How a response ended. `reason` is for a failed one; `answer`, as JSON, is all of one that has no file."""

    job_id: UUID
    outcome: Literal["ready", "failed"]
    reason: str | None
    event_id: str
    answer: str | None = None


class NewFile(NamedTuple):
    """A file of a response, as it lies in the store."""

    file_id: UUID
    job_id: UUID
    path: str
    name: str
    size: int
    sha256: str
    content_type: str


def folder_of(request: Request) -> str:
    """Where the response of a job goes: the same in every attempt, and fit to be a name in every store."""
    stem = safe_stem(request.name, max_bytes=_STEM_MAX_BYTES)
    return f"Responses/{request.device_id}/{stem}.{request.job_id}"


async def reserve(connection: Connection, requests: Sequence[Request], name: Reserve) -> dict[UUID, Home]:
    """Homes by job. What was reserved before stays."""
    named = [(request, name(request)) for request in requests]
    rows = await connection.fetch(
        _SQL["reserve"],
        [home.response_id for _, home in named],
        [request.device_id for request, _ in named],
        [request.job_id for request, _ in named],
        [request.name for request, _ in named],
        [home.store for _, home in named],
        [home.folder for _, home in named],
    )
    if len(rows) < len(requests):  # some were reserved before: by a statement of its own, which sees a rival's commit
        rows = await connection.fetch(_SQL["reserved"], [request.job_id for request in requests])
    return {row["job_id"]: Home(row["response_id"], row["store"], row["folder"]) for row in rows}


async def replace(connection: Connection, job_id: UUID, lease_token: int, store: str) -> bool:
    """Give the response of a running job to another store; False when the job is no longer the caller's.

    What lies, or comes to lie, at the old place stays the job's own and is never announced.
    """
    return bool(await connection.fetch(_SQL["replace"], job_id, lease_token, store))


async def reopen(connection: Connection, job_id: UUID) -> None:
    """Take back that the response of a job ended, after `jobs.redrive` queued it anew. Its folder stays."""
    await connection.execute(_SQL["reopen"], job_id)


async def complete(connection: Connection, ended: Sequence[Completion], files: Sequence[NewFile]) -> None:
    """Write how responses ended and which files they have, after `jobs.finish` returned their jobs."""
    if ended:
        await connection.execute(_SQL["complete"], *(list(column) for column in zip(*ended, strict=True)))
    if files:
        await connection.execute(_SQL["add_files"], *(list(column) for column in zip(*files, strict=True)))
