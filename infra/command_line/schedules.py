"""`fleetwire schedules`: what makes jobs by the clock."""

import os
from pathlib import Path
from typing import Annotated

import typer

from infra.command_line.ending import end_with

app = typer.Typer(help="Schedules: what makes jobs by the clock.", no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[str, typer.Argument(help="The schedule's name.")]


@app.command("ls")
def schedules_ls(
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """All schedules, with when they are next."""
    from infra.commands.schedules import ls

    end_with(lambda: ls(os.environ, as_json=as_json))


@app.command("add")
def schedules_add(
    name: Name,
    *,
    device: Annotated[list[str], typer.Option(help="For this device; may be given again.")],
    kind: Annotated[str, typer.Option(help="The kind of job: table, model, …")],
    cron: Annotated[str | None, typer.Option(help="When: five fields, such as '30 6 * * MON-FRI'.")] = None,
    every: Annotated[int | None, typer.Option(min=10, help="Or every so many seconds.")] = None,
    timezone: Annotated[str, typer.Option(help="In whose time the fields are, such as Europe/Berlin.")] = "UTC",
    request: Annotated[str, typer.Option(help="The name that the request's file has.")] = "scheduled.txt",
    data: Annotated[str | None, typer.Option(help="What the request holds.")] = None,
    file: Annotated[Path | None, typer.Option(help="Or the text file that holds it.")] = None,
    priority: Annotated[int | None, typer.Option(min=-9, max=9, help="Higher first; else the kind's.")] = None,
) -> None:
    """Make a schedule, or replace the one of that name."""
    from infra.commands.schedules import add

    end_with(
        lambda: add(
            os.environ,
            name,
            cron=cron,
            every_s=every,
            timezone=timezone,
            devices=device,
            kind=kind,
            request=request,
            data=data,
            file=file,
            priority=priority,
        )
    )


@app.command("rm")
def schedules_rm(name: Annotated[list[str], typer.Argument(help="Names of schedules.")]) -> None:
    """Forget schedules; their jobs stay."""
    from infra.commands.schedules import remove

    end_with(lambda: remove(os.environ, name))


@app.command("pause")
def schedules_pause(name: Name) -> None:
    """Let a schedule fire no more until it is resumed."""
    from infra.commands.schedules import switch

    end_with(lambda: switch(os.environ, name, enabled=False))


@app.command("resume")
def schedules_resume(name: Name) -> None:
    """Let a paused schedule go on from now."""
    from infra.commands.schedules import switch

    end_with(lambda: switch(os.environ, name, enabled=True))
