"""`fleetwire jobs …`: what waits, runs and failed, and what an operator does about it, through the API."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from time import sleep
from typing import Any, Final
from uuid import UUID

from rich.console import Console
from rich.live import Live

from infra.command_settings import CommandSettings
from infra.commands.api_call import ApiCalls, ApiRefused
from infra.commands.errors import CommandFailed
from infra.commands.jobs_view import job_view, listing, queues_table
from infra.shown_commands import shown
from shared.clock import monotonic
from shared.settings import load

__all__ = ["cancel", "drain", "ls", "retry", "show"]

MATCHING_MAX: Final = 10_000
_PAGE: Final = 500
_HISTORY: Final = 50
_PAGES_MAX: Final = 2000

Show = Callable[[Any], None]


def ls(
    environ: Mapping[str, str],
    *,
    filters: Mapping[str, str | None],
    limit: int,
    as_json: bool,
    live: bool = False,
    every_s: float = 1.0,
    looks: int = 0,
) -> int:
    """Queues and jobs, newest first; `live` until Ctrl-C, or so many `looks`."""
    with _calls(environ) as calls:

        def look() -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
            return calls.get("/api/v1/queues")["queues"], list(_jobs(calls, filters, limit))

        if as_json:
            for _ in _looks(live, every_s, looks):
                queues, jobs = look()
                print(json.dumps({"queues": queues, "jobs": jobs}), flush=True)
            return 0
        console = Console()
        if not live:
            console.print(listing(*look()))
            return 0
        with Live(console=console, auto_refresh=False, screen=console.is_terminal) as screen:
            for _ in _looks(live, every_s, looks):
                screen.update(listing(*look()), refresh=True)
    return 0


def show(environ: Mapping[str, str], job_id: str, *, as_json: bool) -> int:
    """One job with its history."""
    path = f"/api/v1/jobs/{_id_of(job_id)}"
    with _calls(environ) as calls:
        try:
            job, history = calls.get(path), calls.get(f"{path}/history", limit=_HISTORY)["history"]
        except ApiRefused as refused:
            raise _clearer(refused, job_id) from None
    if as_json:
        print(json.dumps(job | {"history": history}))
    else:
        Console().print(job_view(job, history))
    return 0


def retry(environ: Mapping[str, str], job_ids: Sequence[str], *, filters: Mapping[str, str | None] | None) -> int:
    """Queue dead jobs anew: those named, or all dead ones that match the filters."""
    return _each(environ, verb="redrive", done="queued anew", job_ids=job_ids, filters=filters, statuses=("dead",))


def cancel(environ: Mapping[str, str], job_ids: Sequence[str], *, filters: Mapping[str, str | None] | None) -> int:
    """End jobs that wait or run: those named, or all that wait and match the filters. Their devices are told."""
    return _each(
        environ, verb="cancel", done="cancelled", job_ids=job_ids, filters=filters, statuses=("queued", "retry")
    )


def drain(environ: Mapping[str, str], queue: str, *, timeout_s: float, every_s: float = 1.0) -> int:
    """Wait until a queue holds nothing; 1 when it still does after the time."""
    end = monotonic() + timeout_s
    console = Console(stderr=True)
    with _calls(environ) as calls, Live(console=console, auto_refresh=False, transient=True) as screen:
        while True:
            found = [one for one in calls.get("/api/v1/queues")["queues"] if one["queue"] == queue]
            left = sum(one["waiting"] + one["delayed"] + one["running"] for one in found)
            if not left:
                break
            screen.update(queues_table(found), refresh=True)
            if monotonic() >= end:
                print(
                    f"fleetwire: {queue} still holds {left:,} after {timeout_s:g} s; does a worker run for it? "
                    f"`{shown('doctor')}` looks",
                    file=sys.stderr,
                )
                return 1
            sleep(min(every_s, max(0.01, end - monotonic())))
    print(json.dumps({"queue": queue, "left": 0}))
    return 0


def _each(
    environ: Mapping[str, str],
    *,
    verb: str,
    done: str,
    job_ids: Sequence[str],
    filters: Mapping[str, str | None] | None,
    statuses: Sequence[str],
) -> int:
    """One call for each; 1 when one was refused. What is refused stops none of the others."""
    if bool(job_ids) == (filters is not None):
        raise CommandFailed(f"name jobs, or take all that are {' or '.join(statuses)}: one of the two")
    chosen: list[str] = [_id_of(job_id) for job_id in job_ids]
    refused = 0
    with _calls(environ) as calls:
        if filters is not None:
            # All before the first is changed: a change moves jobs out of the list that is being walked.
            for status in statuses:
                room = MATCHING_MAX - len(chosen)
                chosen += [job["job_id"] for job in _jobs(calls, {**filters, "status": status}, room)]
        for job_id in chosen:
            try:
                calls.post(f"/api/v1/jobs/{job_id}/{verb}")
            except ApiRefused as error:
                if error.status in (401, 403):
                    raise
                refused += 1
                print(f"fleetwire: {_clearer(error, job_id)}", file=sys.stderr)
            else:
                print(f"{job_id} {done}", flush=True)
    if filters is not None:
        more = "; there may be more: the same call again takes them" if len(chosen) >= MATCHING_MAX else ""
        print(f"fleetwire: {len(chosen) - refused:,} {done}{more}", file=sys.stderr)
    return 1 if refused else 0


def _jobs(calls: ApiCalls, filters: Mapping[str, str | None], limit: int) -> Iterator[dict[str, Any]]:
    """Jobs that match, at most so many. A page may be short and still not the last."""
    cursor: str | None = None
    left = limit
    for _ in range(_PAGES_MAX):
        if left <= 0:
            return
        page = calls.get("/api/v1/jobs", **filters, limit=min(left, _PAGE), cursor=cursor)
        yield from page["jobs"]
        left -= len(page["jobs"])
        cursor = page["next"]
        if cursor is None:
            return


def _looks(live: bool, every_s: float, looks: int) -> Iterator[int]:
    for number in count(1):
        yield number
        if not live or number == looks:
            return
        sleep(every_s)


def _calls(environ: Mapping[str, str]) -> ApiCalls:
    return ApiCalls(load(CommandSettings, environ), subject="fleetwire-jobs", scope="operator")


def _id_of(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise CommandFailed(f"{text!r} is not the id of a job; `{shown('jobs ls')}` lists them") from None


def _clearer(refused: ApiRefused, job_id: str) -> CommandFailed:
    return CommandFailed(f"{job_id}: {refused.detail}")
