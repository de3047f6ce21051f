"""The commands that run something: all on this machine, or one process; and the migrations before them."""

import os
from typing import Annotated

import typer

from infra.command_line.ending import end_with

app = typer.Typer()


@app.command()
def up(
    hubs: Annotated[
        int | None, typer.Option(min=1, max=64, help="How many hubs; 2, or with --autoscale one to begin with.")
    ] = None,
    devices: Annotated[int, typer.Option(min=0, max=2000, help="How many simulated devices.")] = 0,
    autoscale: Annotated[
        bool,
        typer.Option(
            "--autoscale", help="Add and remove hubs with the devices and workers with the jobs (FLEETWIRE_SCALE_…)."
        ),
    ] = False,
) -> None:
    """Start everything on this machine and keep it running."""
    from infra.onebox.up import run_up

    raise typer.Exit(run_up(os.environ, hubs=hubs, devices=devices, autoscale=autoscale))


@app.command()
def hub() -> None:
    """Run one hub: it holds device sockets and pushes events."""
    from hub.app import main as run

    raise typer.Exit(run())


@app.command()
def api() -> None:
    """Run the REST API."""
    from api.app import main as run

    raise typer.Exit(run())


@app.command()
def watcher() -> None:
    """Run one watcher: it turns changed cloud files into jobs and events."""
    from watcher.app import main as run

    raise typer.Exit(run())


@app.command()
def worker(
    queue: Annotated[
        list[str] | None,
        typer.Option(help="Take jobs of this queue; may be given again. Default: all."),
    ] = None,
) -> None:
    """Run one worker: it turns jobs into response files and events."""
    from worker.app import main as run

    if queue:
        os.environ["FLEETWIRE_WORKER_QUEUES"] = ",".join(queue)
    raise typer.Exit(run())


@app.command()
def files() -> None:
    """Run the files gateway of the local cloud folder."""
    from files.app import main as run

    raise typer.Exit(run())


@app.command()
def migrate(
    post: Annotated[bool, typer.Option(help="Also the steps that need every old process to be gone.")] = True,
) -> None:
    """Bring the database up to date."""
    from infra.commands.migrate import run

    end_with(lambda: run(os.environ, post=post))
