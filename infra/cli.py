"""The `fleetwire` command. Each command imports what it needs when it runs, so that asking for help stays quick."""

import os
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app", "main"]

app = typer.Typer(
    name="fleetwire",
    help="Gets a response to the device that waits for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
log = typer.Typer(help="The log of events.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(log, name="log")
hubs = typer.Typer(
    help="The hubs: how they stand, where devices go, restarts.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(hubs, name="hubs")
cloud = typer.Typer(
    help="The stores of the cloud folder: their files, what changes in them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(cloud, name="cloud")
jobs = typer.Typer(
    help="Jobs: what waits, runs and failed, and what to do about it.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(jobs, name="jobs")


class Scope(StrEnum):
    """What a token allows."""

    DEVICE = "device"
    OPERATOR = "operator"
    SERVICE = "service"


def main() -> None:
    """Run the command line. What a person can mend is said in a line or two, without a traceback."""
    from shared.settings import SettingsError

    try:
        app()
    except SettingsError as error:
        print(f"fleetwire: {error}", file=sys.stderr)
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fleetwire {version('fleetwire')}")
        raise typer.Exit


@app.callback()
def whole(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Gets a response to the device that waits for it."""


@app.command()
def up(
    hubs: Annotated[
        int | None, typer.Option(min=1, max=64, help="How many hubs; 2, or with --autoscale one to begin with.")
    ] = None,
    devices: Annotated[int, typer.Option(min=0, max=2000, help="How many simulated devices.")] = 0,
    autoscale: Annotated[
        bool, typer.Option("--autoscale", help="Add and remove hubs as devices come and go (FLEETWIRE_SCALE_…).")
    ] = False,
) -> None:
    """Start everything on this machine and keep it running."""
    from infra.onebox.up import run_up

    _exit(run_up(os.environ, hubs=hubs, devices=devices, autoscale=autoscale))


@app.command()
def hub() -> None:
    """Run one hub: it holds device sockets and pushes events."""
    from hub.app import main as run

    _exit(run())


@app.command()
def api() -> None:
    """Run the REST API."""
    from api.app import main as run

    _exit(run())


@app.command()
def watcher() -> None:
    """Run one watcher: it turns changed cloud files into jobs and events."""
    from watcher.app import main as run

    _exit(run())


@app.command()
def worker() -> None:
    """Run one worker: it turns jobs into response files and events."""
    from worker.app import main as run

    _exit(run())


@app.command()
def files() -> None:
    """Run the files gateway of the local cloud folder."""
    from files.app import main as run

    _exit(run())


@app.command()
def migrate(
    post: Annotated[bool, typer.Option(help="Also the steps that need every old process to be gone.")] = True,
) -> None:
    """Bring the database up to date."""
    from infra.commands.migrate import run

    _exit(_reported(lambda: run(os.environ, post=post)))


@app.command()
def token(
    device: Annotated[str | None, typer.Option(help="The device the token is for; it is registered.")] = None,
    device_class: Annotated[
        str,
        typer.Option("--class", help="The device's class: any lower-case word, for example truck, warehouse, office."),
    ] = "truck",
    scope: Annotated[list[Scope] | None, typer.Option(help="What it allows; device if a device is given.")] = None,
    subject: Annotated[str | None, typer.Option(help="Who it is for, when it is not for a device.")] = None,
    lifetime: Annotated[int, typer.Option(min=1, max=366 * 24 * 3600, help="Seconds it is good for.")] = 24 * 3600,
) -> None:
    """Register a device and print a token for it, and nothing else."""
    from infra.commands.token import run

    scopes = frozenset(one.value for one in scope or [Scope.DEVICE])
    _exit(
        _reported(
            lambda: run(
                os.environ,
                device=device,
                device_class=device_class,
                scopes=scopes,
                subject=subject,
                lifetime_s=lifetime,
            )
        )
    )


@app.command()
def device(
    device_id: Annotated[str, typer.Argument(help="The device, for example truck-7.")],
    device_class: Annotated[
        str, typer.Option("--class", help="Its class if it is new: any lower-case word.")
    ] = "truck",
    inbox: Annotated[Path | None, typer.Option(help="Where files are saved; by default in the home.")] = None,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many events; 0 is never.")] = 0,
    submit: Annotated[
        Path | None, typer.Option(help="Operations to submit first, one JSON object a line, each with an op_id.")
    ] = None,
) -> None:
    """Be a device: print its events and results, save and check its files, show changes of state."""
    from infra.commands.device import run

    _exit(
        _reported(
            lambda: run(os.environ, device_id, device_class=device_class, inbox=inbox, count=count, submit=submit)
        )
    )


@app.command()
def publish(
    device_id: Annotated[str, typer.Argument(help="The device the event is for.")],
    data: Annotated[str, typer.Argument(help="The event's data, a JSON object.")] = "{}",
    event_type: Annotated[str, typer.Option("--type", help="The event's type.")] = "Message",
    key: Annotated[str | None, typer.Option(help="Key that makes a repeat harmless.")] = None,
) -> None:
    """Publish one event to a device, through the API."""
    from infra.commands.publish import run

    _exit(_reported(lambda: run(os.environ, device_id, data, event_type=event_type, key=key)))


@app.command()
def notice(
    data: Annotated[str, typer.Option(help="What the devices are told, a JSON object of at most 4 KiB.")],
    device_class: Annotated[
        str | None, typer.Option("--class", help="Only devices of this class; without it, all.")
    ] = None,
    notice_id: Annotated[str | None, typer.Option("--id", help="Devices drop a second notice of one id.")] = None,
) -> None:
    """Tell something to the devices that are connected now, through the API; it is kept nowhere."""
    from infra.commands.notice import run

    _exit(_reported(lambda: run(os.environ, data, device_class=device_class, notice_id=notice_id)))


@app.command()
def revoke(
    device: Annotated[str, typer.Option(help="The device whose tokens are not to be good any more.")],
    token_id: Annotated[str | None, typer.Option(help="Only the token with this id (its jti).")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "revoked by an operator",
) -> None:
    """Revoke what a device was given until now, or one of its tokens; connections that use it are closed."""
    from infra.commands.revoke import run

    _exit(_reported(lambda: run(os.environ, device, token_id=token_id, reason=reason)))


@app.command()
def demo(
    timeout: Annotated[int, typer.Option(min=1, max=600, help="Seconds until it gives up.")] = 60,
) -> None:
    """Three devices, three files, every response verified and acked, every stage in milliseconds."""
    from infra.demo.run import run

    _exit(_reported(lambda: run(os.environ, timeout_s=timeout)))


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

        _log_quietly()
    else:
        from infra.commands.doctor import run

    _exit(_reported(lambda: run(os.environ)))


@log.command("raise-epoch")
def raise_epoch(
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "raised by an operator",
) -> None:
    """Tell every device that the log lost events. For after a restore from a backup."""
    from infra.commands.raise_epoch import run

    _exit(_reported(lambda: run(os.environ, reason=reason)))


Names = Annotated[list[str] | None, typer.Argument(help="Hubs by name; all without one.", show_default=False)]


@hubs.command("ls")
def hubs_ls(as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False) -> None:
    """How each hub stands: devices, those of other hubs, what it sees, what it moves."""
    from infra.commands.hubs import ls

    _exit(_reported(lambda: ls(os.environ, as_json=as_json)))


@hubs.command("plan")
def hubs_plan(
    without: Annotated[list[str] | None, typer.Option(help="As if this hub were gone; may be repeated.")] = None,
    plus: Annotated[
        list[str] | None, typer.Option("--with", help="As if there were this hub; may be repeated.")
    ] = None,
) -> None:
    """How many devices a move would send where. Nothing is done."""
    from infra.commands.hubs import plan

    _exit(_reported(lambda: plan(os.environ, without=without or [], plus=plus or [])))


@hubs.command("move")
def hubs_move(
    names: Names = None,
    to: Annotated[str | None, typer.Option(help="Only the devices that belong to this hub.")] = None,
    wait: Annotated[bool, typer.Option(help="Show how far it is until all have gone.")] = True,
) -> None:
    """Send devices to the hubs they belong to, at the set rate."""
    from infra.commands.hubs import move

    _exit(_reported(lambda: move(os.environ, names or [], to=to, wait=wait)))


@hubs.command("pause")
def hubs_pause(names: Names = None) -> None:
    """Tell no more devices to move; those told go on."""
    from infra.commands.hubs import command

    _exit(_reported(lambda: command(os.environ, "pause", names or [])))


@hubs.command("resume")
def hubs_resume(names: Names = None) -> None:
    """Go on after a pause."""
    from infra.commands.hubs import command

    _exit(_reported(lambda: command(os.environ, "resume", names or [])))


@hubs.command("abort")
def hubs_abort(names: Names = None) -> None:
    """Stop the moves; what has not moved stays."""
    from infra.commands.hubs import command

    _exit(_reported(lambda: command(os.environ, "abort", names or [])))


@hubs.command("roll")
def hubs_roll(
    names: Names = None,
    timeout: Annotated[int, typer.Option(min=1, max=3600, help="Seconds for each stage of each hub.")] = 120,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Restart hubs one after another, each with its devices back before the next; something must start them again."""
    from infra.commands.hubs import roll_all

    _exit(_reported(lambda: roll_all(os.environ, names or [], timeout_s=timeout, as_json=as_json)))


StoreName = Annotated[str, typer.Option(help="Which store: local, s3, drive:<label>, sharepoint:<label>.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, one object a line, for programs.")]


@cloud.command("ls")
def cloud_ls(
    folder: Annotated[str, typer.Argument(help="A folder; all without one.", show_default=False)] = "",
    store: StoreName = "local",
    as_json: AsJson = False,
) -> None:
    """The files below a folder."""
    from infra.commands.cloud import ls

    _log_quietly()
    _exit(_reported(lambda: ls(os.environ, folder, store=store, as_json=as_json)))


@cloud.command("put")
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

    _log_quietly()
    _exit(_reported(lambda: put(os.environ, file, path, store=store, content_type=content_type, count_on=count_on)))


@cloud.command("get")
def cloud_get(
    path: Annotated[str, typer.Argument(help="The file in the store.")],
    file: Annotated[Path | None, typer.Argument(help="Where to; here without it.", show_default=False)] = None,
    store: StoreName = "local",
) -> None:
    """Download a file; it appears when it is whole."""
    from infra.commands.cloud import get

    _log_quietly()
    _exit(_reported(lambda: get(os.environ, path, file, store=store)))


@cloud.command("mv")
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

    _log_quietly()
    _exit(_reported(lambda: move(os.environ, path, to, store=store, to_store=to_store)))


@cloud.command("watch")
def cloud_watch(
    folder: Annotated[str, typer.Argument(help="Only below this folder.", show_default=False)] = "",
    store: StoreName = "local",
    every: Annotated[float, typer.Option(min=0.05, max=3600, help="Seconds between two looks.")] = 5.0,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many changes; 0 is never.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Print what is new, changed or gone, as the store itself tells it."""
    from infra.commands.cloud_follow import watch

    _log_quietly()
    _exit(_reported(lambda: watch(os.environ, folder, store=store, every_s=every, count=count, as_json=as_json)))


@cloud.command("resync")
def cloud_resync(
    store: StoreName = "local",
    wait: Annotated[bool, typer.Option(help="Show how far it is until it is over.")] = True,
    timeout: Annotated[int, typer.Option(min=1, max=86_400, help="Seconds to wait.")] = 3600,
) -> None:
    """Have the watchers compare all of a store with what they know; nothing is announced twice."""
    from infra.commands.cloud_follow import resync

    _log_quietly()
    _exit(_reported(lambda: resync(os.environ, store=store, wait=wait, timeout_s=timeout)))


JobIds = Annotated[list[str] | None, typer.Argument(help="Jobs by id.", show_default=False)]
OfKind = Annotated[str | None, typer.Option(help="Only of this kind: photo, table, …")]
OfDevice = Annotated[str | None, typer.Option(help="Only of this device.")]


@jobs.command("ls")
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
    _exit(_reported(lambda: ls(os.environ, filters=filters, limit=limit, as_json=as_json, live=live, every_s=every)))


@jobs.command("show")
def jobs_show(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """All that is known of a job, its error and its history."""
    from infra.commands.jobs import show

    _exit(_reported(lambda: show(os.environ, job, as_json=as_json)))


@jobs.command("retry")
def jobs_retry(
    job: JobIds = None,
    dead: Annotated[bool, typer.Option("--all-dead", help="All that are dead instead, 10,000 at a time.")] = False,
    kind: OfKind = None,
    device: OfDevice = None,
) -> None:
    """Queue dead jobs anew, with fresh attempts; their devices are told again how they end."""
    from infra.commands.jobs import retry

    filters = {"kind": kind, "device_id": device} if dead else None
    _exit(_reported(lambda: retry(os.environ, job or [], filters=filters)))


@jobs.command("cancel")
def jobs_cancel(
    job: JobIds = None,
    waiting: Annotated[bool, typer.Option("--all-waiting", help="All that wait instead, 10,000 at a time.")] = False,
    kind: OfKind = None,
    device: OfDevice = None,
) -> None:
    """End jobs that wait or run; their devices are told."""
    from infra.commands.jobs import cancel

    filters = {"kind": kind, "device_id": device} if waiting else None
    _exit(_reported(lambda: cancel(os.environ, job or [], filters=filters)))


@jobs.command("drain")
def jobs_drain(
    queue: Annotated[str, typer.Argument(help="The queue.")] = "requests",
    timeout: Annotated[float, typer.Option(min=0.1, max=86_400, help="Seconds to wait.")] = 3600,
) -> None:
    """Wait until a queue holds nothing, and show how far it is."""
    from infra.commands.jobs import drain

    _exit(_reported(lambda: drain(os.environ, queue, timeout_s=timeout)))


def _reported(run: Callable[[], int]) -> int:
    """The command's status; an error that it raises for people is printed without a traceback."""
    from infra.commands.errors import SPOKEN

    try:
        return run()
    except SPOKEN as error:
        print(f"fleetwire: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _log_quietly() -> None:
    """Lines of what a command uses go to standard error, and only when something is wrong."""
    from shared.telemetry.logs import configure

    configure("fleetwire", "warning")


def _exit(status: int) -> None:
    raise typer.Exit(status)


if __name__ == "__main__":
    main()
