"""What can go wrong in a set-up on one machine.

OneboxError
├── HomeInUse           another supervisor runs in this home
├── HomeRefused         the home, or a directory the set-up needs, is not safe or not usable
├── ServerMissing       no binary of an embedded server for this machine
├── ServerNotReady      a server or process did not become ready
└── PortTaken           a port is used by somebody else
"""

__all__ = ["HomeInUse", "HomeRefused", "OneboxError", "PortTaken", "ServerMissing", "ServerNotReady"]


class OneboxError(RuntimeError):
    """The set-up on this machine cannot go on; the message says what to do."""


class HomeInUse(OneboxError):
    """Another supervisor runs in this home."""


class HomeRefused(OneboxError):
    """A directory that the set-up needs is not safe or not usable."""


class ServerMissing(OneboxError):
    """There is no binary of an embedded server for this machine."""


class ServerNotReady(OneboxError):
    """A server or process did not become ready."""


class PortTaken(OneboxError):
    """A port is used by somebody else."""

    def __init__(self, what: str, host: str, port: int, variable: str) -> None:
        super().__init__(f"{what}: port {port} on {host} is taken; set {variable} to a free port")
        self.variable = variable
