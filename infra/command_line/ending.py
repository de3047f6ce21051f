"""How a command ends: with its status, and with an error in a line where a person can mend it."""

import sys
from collections.abc import Callable

import typer


def end_with(run: Callable[[], int]) -> None:
    """Leave with the command's status; an error that it raises for people is printed without a traceback."""
    from infra.commands.errors import SPOKEN

    try:
        status = run()
    except SPOKEN as error:
        print(f"fleetwire: {error}", file=sys.stderr)
        status = 1
    except KeyboardInterrupt:
        status = 130
    raise typer.Exit(status)


def log_quietly() -> None:
    """Lines of what a command uses go to standard error, and only when something is wrong."""
    from shared.telemetry.logs import configure

    configure("fleetwire", "warning")
