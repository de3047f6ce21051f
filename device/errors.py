"""What the SDK raises, as one tree.

DeviceError
├── ConfigurationError        arguments that cannot work; nothing was started
├── ClientClosed              the client has ended and will not come back by itself
│   ├── Replaced              another client of this device took over (4300)
│   ├── Revoked               the token was revoked, or does not allow this device (4301, 403)
│   ├── TokenRefused          the token is over and there is no callback that brings a new one
│   └── ProtocolRefused       the server does not take what this client says (4302, 1007, 1009, 400, 426)
├── PositionFileError         the position cannot be kept
│   ├── PositionFileLocked    another client of this device runs on this machine
│   └── PositionFileCorrupt   what the file holds is not what was written
├── TransportError            one try failed; the client tries again by itself
│   ├── Unreachable           no answer, or one that is not from our server
│   └── Refused               the server said no, for now
├── DownloadError             a file could not be had
│   ├── FileGone              the server does not have it (any more)
│   ├── FileDiffers           another file of this name is already there
│   ├── HashMismatch          what came is not what was announced
│   └── ForeignOrigin         the address leads away from the API
└── OutboxError               operations cannot be kept
    ├── OperationInvalid      this one is malformed; nothing was queued
    ├── OutboxFull            as many wait as may
    ├── OutboxLocked          another client of this device runs on this machine
    └── OutboxCorrupt         what the file holds is not what was written
"""

__all__ = [
    "ClientClosed",
    "ConfigurationError",
    "DeviceError",
    "DownloadError",
    "FileDiffers",
    "FileGone",
    "ForeignOrigin",
    "HashMismatch",
    "OperationInvalid",
    "OutboxCorrupt",
    "OutboxError",
    "OutboxFull",
    "OutboxLocked",
    "PositionFileCorrupt",
    "PositionFileError",
    "PositionFileLocked",
    "ProtocolRefused",
    "Refused",
    "Replaced",
    "Revoked",
    "TokenRefused",
    "TransportError",
    "Unreachable",
]


class DeviceError(Exception):
    """Base of all that the SDK raises. The docstring is the message when none is given."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or type(self).__doc__)


class ConfigurationError(DeviceError):
    """The client was given arguments that cannot work."""


class ClientClosed(DeviceError):
    """The client has ended."""


class Replaced(ClientClosed):
    """Another client of this device took over; one device runs one client."""


class Revoked(ClientClosed):
    """The token was revoked or does not allow this device."""


class TokenRefused(ClientClosed):
    """The token is not accepted any more; give `token=` a callable that returns a new one."""


class ProtocolRefused(ClientClosed):
    """The server does not take what this client says; update the client."""


class PositionFileError(DeviceError):
    """The position file cannot be written."""


class PositionFileLocked(PositionFileError):
    """Another client of this device runs on this machine."""


class PositionFileCorrupt(PositionFileError):
    """The position file does not hold what was written to it."""


class TransportError(DeviceError):
    """One try failed; the client tries again by itself."""


class Unreachable(TransportError):
    """No answer, or one that is not from our server."""


class Refused(TransportError):
    """The server said no for now. `retry_after` is its wish in seconds, if it had one; `problem` the type it gave."""

    def __init__(
        self, message: str | None = None, *, status: int = 0, retry_after: float | None = None, problem: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after
        self.problem = problem


class DownloadError(DeviceError):
    """The file could not be had."""


class FileGone(DownloadError):
    """The server does not have this file (any more)."""


class FileDiffers(DownloadError):
    """Another file of this name is already there; it was left as it is."""


class HashMismatch(DownloadError):
    """What came is not what was announced."""


class ForeignOrigin(DownloadError):
    """The address leads away from the API; the token is not sent there."""


class OutboxError(DeviceError):
    """The operations cannot be kept on this device."""


class OperationInvalid(OutboxError):
    """The operation is malformed. `field` names the member to mend; nothing was queued."""

    def __init__(self, message: str | None = None, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class OutboxFull(OutboxError):
    """As many operations and results wait on this device as may; nothing was queued."""


class OutboxLocked(OutboxError):
    """Another client of this device runs on this machine."""


class OutboxCorrupt(OutboxError):
    """The outbox file does not hold what was written to it."""
