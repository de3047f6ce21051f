"""`fleetwire log`: the log of events."""

import os
from typing import Annotated

import typer

from infra.command_line.ending import end_with

app = typer.Typer(help="The log of events.", no_args_is_help=True, rich_markup_mode=None)


@app.command("raise-epoch")
def raise_epoch(
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "raised by an operator",
) -> None:
    """Tell every device that the log lost events. For after a restore from a backup."""
    from infra.commands.raise_epoch import run

    end_with(lambda: run(os.environ, reason=reason))
