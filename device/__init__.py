"""The client SDK: every event once and in order, by socket or by REST."""

from device.client import Client, OutboxState
from device.errors import (
    ClientClosed,
    ConfigurationError,
    DeviceError,
    DownloadError,
    FileDiffers,
    FileGone,
    ForeignOrigin,
    HashMismatch,
    OperationInvalid,
    OutboxCorrupt,
    OutboxError,
    OutboxFull,
    OutboxLocked,
    PositionFileCorrupt,
    PositionFileError,
    PositionFileLocked,
    ProtocolRefused,
    Refused,
    Replaced,
    Revoked,
    TokenRefused,
    TransportError,
    Unreachable,
)
from device.event import Event, ResponseFile
from device.outbox_file import OutboxLimits
from device.positions import PositionStore, Saved
from device.results import Fault, Result
from device.route import State
from device.run import Reset, StateChange
from device.seen import SeenEvent, fingerprint
from device.submission import new_id
from device.timing import Timing

__all__ = [
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "DeviceError",
    "DownloadError",
    "Event",
    "Fault",
    "FileDiffers",
    "FileGone",
    "ForeignOrigin",
    "HashMismatch",
    "OperationInvalid",
    "OutboxCorrupt",
    "OutboxError",
    "OutboxFull",
    "OutboxLimits",
    "OutboxLocked",
    "OutboxState",
    "PositionFileCorrupt",
    "PositionFileError",
    "PositionFileLocked",
    "PositionStore",
    "ProtocolRefused",
    "Refused",
    "Replaced",
    "Reset",
    "ResponseFile",
    "Result",
    "Revoked",
    "Saved",
    "SeenEvent",
    "State",
    "StateChange",
    "Timing",
    "TokenRefused",
    "TransportError",
    "Unreachable",
    "fingerprint",
    "new_id",
]
