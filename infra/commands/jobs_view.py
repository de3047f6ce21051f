"""Jobs and queues as tables for people; what is asked for as JSON is printed as the API said it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group
from rich.table import Column, Table
from rich.text import Text

__all__ = ["job_view", "jobs_table", "listing", "queues_table"]

_STYLES = {"dead": "bold red", "retry": "yellow", "running": "cyan", "done": "green", "cancelled": "dim"}


def listing(queues: Sequence[Mapping[str, Any]], jobs: Sequence[Mapping[str, Any]]) -> Group:
    """How the queues stand, then jobs."""
    return Group(queues_table(queues), jobs_table(jobs))


def queues_table(queues: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each queue, with what came and went a second."""
    numbers = ("waiting", "later", "running", "oldest", "queued/s", "done/s", "retry/s", "dead/s")
    table = Table(Column("queue", no_wrap=True, min_width=8), *map(_right, numbers))
    for queue in queues:
        rates = queue["per_s"]
        counts = (queue["waiting"], queue["delayed"], queue["running"])
        table.add_row(
            queue["queue"],
            *(f"{count:,}" for count in counts),
            _seconds(queue["oldest_s"]) if queue["waiting"] else "",
            *(_rate(rates[state]) for state in ("queued", "done", "retry", "dead")),
        )
    if not queues:
        table.add_row("all empty")
    return table


def jobs_table(jobs: Sequence[Mapping[str, Any]]) -> Table:
    """A row for each job."""
    # Never cut: it is what the other commands are given.
    table = Table(
        Column("job", no_wrap=True, min_width=36),
        "status",
        "kind",
        "device",
        "file",
        _right("attempts"),
        "created",
        _right("took"),
    )
    for job in jobs:
        table.add_row(
            job["job_id"],
            _status(job["status"]),
            Text(job["kind"]),
            job["device_id"],
            Text(job["name"]),
            str(job["attempts"]),
            job["created_at"][:19].replace("T", " "),
            _took(job),
        )
    if not jobs:
        table.add_row("none like that")
    return table


def job_view(job: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> Group:
    """All that is known of a job, and how it came to be as it is, newest first."""
    facts = Table(show_header=False, box=None)
    for name, value in job.items():
        if value is not None:
            facts.add_row(name, _status(value) if name == "status" else Text(str(value)))
    changes = Table("when", "status", "worker", "detail")
    for one in history:
        changes.add_row(one["at"], _status(one["status"]), Text(one["worker"] or ""), Text(one["detail"] or ""))
    return Group(facts, changes)


def _right(name: str) -> Column:
    return Column(name, justify="right")


def _status(status: str) -> Text:
    return Text(status, style=_STYLES.get(status, ""))


def _rate(per_s: float) -> str:
    return f"{per_s:,.1f}" if per_s else ""


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.0f} h"


def _took(job: Mapping[str, Any]) -> str:
    if job["started_at"] is None or job["finished_at"] is None:
        return ""
    return _seconds(
        max(
            0.0,
            (datetime.fromisoformat(job["finished_at"]) - datetime.fromisoformat(job["started_at"])).total_seconds(),
        )
    )
