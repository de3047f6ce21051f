"""The commands about the whole: does it work, and what is wrong."""

import os
from typing import Annotated

import typer

from infra.command_line.ending import end_with, log_quietly

app = typer.Typer()


@app.command()
def demo(
    timeout: Annotated[int, typer.Option(min=1, max=600, help="Seconds until it gives up.")] = 60,
) -> None:
    """Three devices, three files, every response verified and acked, every stage in milliseconds."""
    from infra.demo.run import run

    end_with(lambda: run(os.environ, timeout_s=timeout))


@app.command()
def doctor(
    cloud: Annotated[
        bool,
        typer.Option("--cloud", help="The stores instead: credentials, permissions, clock, space; tried for real."),
    ] = False,
) -> None:
    """Look at everything that runs and say what is wrong and how to mend it."""
    if cloud:
        from infra.commands.cloud_doctor import run

        log_quietly()
    else:
        from infra.commands.doctor import run

    end_with(lambda: run(os.environ))
