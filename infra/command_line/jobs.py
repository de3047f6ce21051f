"""`fleetwire jobs`: what waits, runs and failed, and what to do about it."""

import os
from typing import Annotated

import typer

from infra.command_line.ending import end_with

app = typer.Typer(
    help="Jobs: what waits, runs and failed, and what to do about it.", no_args_is_help=True, rich_markup_mode=None
)

JobIds = Annotated[list[str] | None, typer.Argument(help="Jobs by id.", show_default=False)]
OfKind = Annotated[str | None, typer.Option(help="Only of this kind: photo, table, …")]
OfDevice = Annotated[str | None, typer.Option(help="Only of this device.")]


@app.command("ls")
def jobs_ls(
    *,
    status: Annotated[
        str | None, typer.Option(help="Only those queued, running, done, retry, dead or cancelled.")
    ] = None,
    kind: OfKind = None,
    device: OfDevice = None,
    name: Annotated[str | None, typer.Option(help="By how the file's name begins, and by nothing else.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs; one line for each look.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Look again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks.")] = 1.0,
) -> None:
    """How the queues stand, with rates, and jobs, newest first."""
    from infra.commands.jobs import ls

    filters = {"status": status, "kind": kind, "device_id": device, "name_prefix": name}
    end_with(lambda: ls(os.environ, filters=filters, limit=limit, as_json=as_json, live=live, every_s=every))


@app.command("show")
def jobs_show(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """All that is known of a job, its error and its history."""
    from infra.commands.jobs import show

    end_with(lambda: show(os.environ, job, as_json=as_json))


@app.command("retry")
def jobs_retry(
    job: JobIds = None,
    dead: Annotated[bool, typer.Option("--all-dead", help="All that are dead instead, 10,000 at a time.")] = False,
    kind: OfKind = None,
    device: OfDevice = None,
) -> None:
    """Queue dead jobs anew, with fresh attempts; their devices are told again how they end."""
    from infra.commands.jobs import retry

    filters = {"kind": kind, "device_id": device} if dead else None
    end_with(lambda: retry(os.environ, job or [], filters=filters))


@app.command("cancel")
def jobs_cancel(
    job: JobIds = None,
    waiting: Annotated[bool, typer.Option("--all-waiting", help="All that wait instead, 10,000 at a time.")] = False,
    kind: OfKind = None,
    device: OfDevice = None,
) -> None:
    """End jobs that wait or run; their devices are told."""
    from infra.commands.jobs import cancel

    filters = {"kind": kind, "device_id": device} if waiting else None
    end_with(lambda: cancel(os.environ, job or [], filters=filters))


@app.command("drain")
def jobs_drain(
    queue: Annotated[str, typer.Argument(help="The queue.")] = "requests",
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds to wait.")] = 3600,
) -> None:
    """Wait until a queue holds nothing, and show how far it is."""
    from infra.commands.jobs import drain

    end_with(lambda: drain(os.environ, queue, timeout_s=timeout))
