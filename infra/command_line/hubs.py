"""`fleetwire hubs`: how they stand, where devices go, restarts."""

import os
from typing import Annotated

import typer

from infra.command_line.ending import end_with

app = typer.Typer(
    help="The hubs: how they stand, where devices go, restarts.", no_args_is_help=True, rich_markup_mode=None
)

Names = Annotated[list[str] | None, typer.Argument(help="Hubs by name; all without one.", show_default=False)]


@app.command("ls")
def hubs_ls(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """How each hub stands: devices, those of other hubs, what it sees, what it moves."""
    from infra.commands.hubs import ls

    end_with(lambda: ls(os.environ, as_json=as_json))


@app.command("plan")
def hubs_plan(
    without: Annotated[list[str] | None, typer.Option(help="As if this hub were gone; may be repeated.")] = None,
    plus: Annotated[
        list[str] | None, typer.Option("--with", help="As if there were this hub; may be repeated.")
    ] = None,
) -> None:
    """How many devices a move would send where. Nothing is done."""
    from infra.commands.hubs import plan

    end_with(lambda: plan(os.environ, without=without or [], plus=plus or []))


@app.command("move")
def hubs_move(
    names: Names = None,
    to: Annotated[str | None, typer.Option(help="Only the devices that belong to this hub.")] = None,
    wait: Annotated[bool, typer.Option(help="Show how far it is until all have gone.")] = True,
) -> None:
    """Send devices to the hubs they belong to, at the set rate."""
    from infra.commands.hubs import move

    end_with(lambda: move(os.environ, names or [], to=to, wait=wait))


@app.command("pause")
def hubs_pause(names: Names = None) -> None:
    """Tell no more devices to move; those told go on."""
    from infra.commands.hubs import command

    end_with(lambda: command(os.environ, "pause", names or []))


@app.command("resume")
def hubs_resume(names: Names = None) -> None:
    """Go on after a pause."""
    from infra.commands.hubs import command

    end_with(lambda: command(os.environ, "resume", names or []))


@app.command("abort")
def hubs_abort(names: Names = None) -> None:
    """Stop the moves; what has not moved stays."""
    from infra.commands.hubs import command

    end_with(lambda: command(os.environ, "abort", names or []))


@app.command("roll")
def hubs_roll(
    names: Names = None,
    timeout: Annotated[int, typer.Option(min=1, max=3600, help="Seconds for each stage of each hub.")] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Restart hubs one after another, each with its devices back before the next; something must start them again."""
    from infra.commands.hubs import roll_all

    end_with(lambda: roll_all(os.environ, names or [], timeout_s=timeout, as_json=as_json))
