"""`fleetwire cloud`: the files of the stores, and what changes in them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from infra.command_line.ending import end_with, log_quietly

app = typer.Typer(
    help="The stores of the cloud folder: their files, what changes in them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

StoreName = Annotated[str, typer.Option(help="Which store: local, s3, drive:<label>, sharepoint:<label>.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, one object a line, for programs.")]


@app.command("ls")
def cloud_ls(
    folder: Annotated[str, typer.Argument(help="A folder; all without one.", show_default=False)] = "",
    store: StoreName = "local",
    as_json: AsJson = False,
) -> None:
    """The files below a folder."""
    from infra.commands.cloud import ls

    log_quietly()
    end_with(lambda: ls(os.environ, folder, store=store, as_json=as_json))


@app.command("put")
def cloud_put(
    file: Annotated[Path, typer.Argument(help="The file on this machine.")],
    path: Annotated[str, typer.Argument(help="Where to; with a / at the end, under the file's own name.")],
    store: StoreName = "local",
    content_type: Annotated[str | None, typer.Option(help="By default what the name says.")] = None,
    count_on: Annotated[
        bool, typer.Option("--count-on", help="If other content has the name: the next of name (v2), name (v3), ….")
    ] = False,
) -> None:
    """Upload a file; begun again it goes on where it broke off. Nothing is overwritten."""
    from infra.commands.cloud import put

    log_quietly()
    end_with(lambda: put(os.environ, file, path, store=store, content_type=content_type, count_on=count_on))


@app.command("get")
def cloud_get(
    path: Annotated[str, typer.Argument(help="The file in the store.")],
    file: Annotated[Path | None, typer.Argument(help="Where to; here without it.", show_default=False)] = None,
    store: StoreName = "local",
) -> None:
    """Download a file; it appears when it is whole."""
    from infra.commands.cloud import get

    log_quietly()
    end_with(lambda: get(os.environ, path, file, store=store))


@app.command("mv")
def cloud_mv(
    path: Annotated[str, typer.Argument(help="The file in the store.")],
    to: Annotated[str, typer.Argument(help="Where to; with a / at its end, a folder.")],
    store: StoreName = "local",
    to_store: Annotated[
        str | None, typer.Option(help="Another store; the same without it.", show_default=False)
    ] = None,
) -> None:
    """Move a file within its store or to another; the same call finishes what broke off. Nothing is overwritten."""
    from infra.commands.cloud_move import move

    log_quietly()
    end_with(lambda: move(os.environ, path, to, store=store, to_store=to_store))


@app.command("watch")
def cloud_watch(
    folder: Annotated[str, typer.Argument(help="Only below this folder.", show_default=False)] = "",
    store: StoreName = "local",
    every: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between two looks.")] = 5.0,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many changes; 0 is never.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print what is new, changed or gone, as the store itself tells it."""
    from infra.commands.cloud_follow import watch

    log_quietly()
    end_with(lambda: watch(os.environ, folder, store=store, every_s=every, count=count, as_json=as_json))


@app.command("resync")
def cloud_resync(
    store: StoreName = "local",
    wait: Annotated[bool, typer.Option(help="Show how far it is until it is over.")] = True,
    timeout: Annotated[int, typer.Option(min=1, max=86_400, help="Seconds to wait.")] = 3600,
) -> None:
    """Have the watchers compare all of a store with what they know; nothing is announced twice."""
    from infra.commands.cloud_follow import resync

    log_quietly()
    end_with(lambda: resync(os.environ, store=store, wait=wait, timeout_s=timeout))
