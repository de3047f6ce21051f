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
def trace(
    what: Annotated[str, typer.Argument(help="A job's id; with --device also an event's id or a file's name.")],
    device: Annotated[str | None, typer.Option(help="The device of the event or the file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Where a file, a job or an event is now, since when and who holds it, and every stage with its lag."""
    from infra.commands.trace import run

    end_with(lambda: run(os.environ, what, device_id=device, as_json=as_json))


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
