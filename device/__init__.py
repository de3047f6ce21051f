"""The client SDK: every event once and in order, by socket or by REST."""

from device.client import Client
from device.errors import (
    ClientClosed,
    ConfigurationError,
    DeviceError,
    DownloadError,
    FileDiffers,
    FileGone,
    ForeignOrigin,
    HashMismatch,
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
from device.positions import PositionStore, Saved
from device.route import State
from device.run import Reset, StateChange
from device.seen import SeenEvent, fingerprint
from device.timing import Timing

__all__ = [
    "Client",
    "ClientClosed",
    "ConfigurationError",
    "DeviceError",
    "DownloadError",
    "Event",
    "FileDiffers",
    "FileGone",
    "ForeignOrigin",
    "HashMismatch",
    "PositionFileCorrupt",
    "PositionFileError",
    "PositionFileLocked",
    "PositionStore",
    "ProtocolRefused",
    "Refused",
    "Replaced",
    "Reset",
    "ResponseFile",
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
]
