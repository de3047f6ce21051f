"""The commands about devices: their tokens, what they are told, and being one."""

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from infra.command_line.ending import end_with

app = typer.Typer()


class Scope(StrEnum):
    """What a token allows."""

    DEVICE = "device"
    OPERATOR = "operator"
    SERVICE = "service"


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
    end_with(
        lambda: run(
            os.environ,
            device=device,
            device_class=device_class,
            scopes=scopes,
            subject=subject,
            lifetime_s=lifetime,
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

    end_with(lambda: run(os.environ, device_id, device_class=device_class, inbox=inbox, count=count, submit=submit))


@app.command()
def publish(
    device_id: Annotated[str, typer.Argument(help="The device the event is for.")],
    data: Annotated[str, typer.Argument(help="The event's data, a JSON object.")] = "{}",
    event_type: Annotated[str, typer.Option("--type", help="The event's type.")] = "Message",
    key: Annotated[str | None, typer.Option(help="Key that makes a repeat harmless.")] = None,
) -> None:
    """Publish one event to a device, through the API."""
    from infra.commands.publish import run

    end_with(lambda: run(os.environ, device_id, data, event_type=event_type, key=key))


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

    end_with(lambda: run(os.environ, data, device_class=device_class, notice_id=notice_id))


@app.command()
def revoke(
    device: Annotated[str, typer.Option(help="The device whose tokens are not to be good any more.")],
    token_id: Annotated[str | None, typer.Option(help="Only the token with this id (its jti).")] = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "revoked by an operator",
) -> None:
    """Revoke what a device was given until now, or one of its tokens; connections that use it are closed."""
    from infra.commands.revoke import run

    end_with(lambda: run(os.environ, device, token_id=token_id, reason=reason))
