"""The `fleetwire` command. Each command imports what it needs when it runs, so that asking for help stays quick."""

import sys
from typing import Annotated

import typer

from infra.command_line import cloud, devices, hubs, jobs, log, processes, schedules, whole

__all__ = ["app", "command_names", "main"]

app = typer.Typer(
    name="fleetwire",
    help="Gets a response to the device that waits for it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (processes, devices, whole):
    app.add_typer(commands.app)
app.add_typer(log.app, name="log")
app.add_typer(hubs.app, name="hubs")
app.add_typer(cloud.app, name="cloud")
app.add_typer(jobs.app, name="jobs")
app.add_typer(schedules.app, name="schedules")


def main() -> None:
    """Run the command line. What a person can mend is said in a line or two, without a traceback."""
    from shared.settings import SettingsError

    try:
        app()
    except SettingsError as error:
        print(f"fleetwire: {error}", file=sys.stderr)
        sys.exit(2)


def command_names() -> list[str]:
    """What can follow `fleetwire`, groups included."""
    command = typer.main.get_command(app)
    return list(getattr(command, "commands", {}))


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"fleetwire {version('fleetwire')}")
        raise typer.Exit


@app.callback()
def every_command(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Gets a response to the device that waits for it."""


if __name__ == "__main__":
    main()
