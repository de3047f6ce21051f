"""Errors that a command says in one line, because a person can do something about them."""

from device.errors import DeviceError
from infra.migrations.runner import MigrationError
from infra.onebox.errors import OneboxError
from shared.cloud.errors import CloudError
from shared.protocol.ids import InvalidId
from shared.store.errors import StoreError

__all__ = ["SPOKEN", "CommandFailed"]


class CommandFailed(RuntimeError):
    """A command cannot do what it was asked; the message says why."""


SPOKEN = (CloudError, CommandFailed, DeviceError, InvalidId, MigrationError, OneboxError, StoreError)
