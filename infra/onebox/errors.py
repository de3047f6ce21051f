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
    """Ports are used by somebody else; each line names one and the setting that moves it."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems
