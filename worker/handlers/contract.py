"""What a handler is: a file in, an answer out, inside a process of its own.

A handler runs in a pool process with a memory bound and a deadline, and may crash, loop or be killed there without
harm to anything but its own attempt. It reads one private copy of the request file, writes response files into one
private empty folder, and returns an `Answer` that names them. It opens nothing else: no network, no database, no
environment.

A file that cannot be processed is an answer too (`Unreadable`, `Unsupported`, `TooLarge`), because trying again would
say the same. Anything else that is raised fails this attempt, and the job is tried again.

Other packages add handlers by an entry point of the group `fleetwire.handlers`: its name is the kind, its value a
callable without arguments that returns a `Handler`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeVar

__all__ = [
    "DETAIL_MAX_CHARS",
    "ENTRY_POINT_GROUP",
    "ERROR_MAX_CHARS",
    "FILES_MAX",
    "SUMMARY_MAX_BYTES",
    "Answer",
    "Handler",
    "Outcome",
    "Refusal",
    "ResponseFile",
    "Task",
    "TooLarge",
    "Unreadable",
    "Unsupported",
]

ENTRY_POINT_GROUP: Final = "fleetwire.handlers"
FILES_MAX: Final = 32
SUMMARY_MAX_BYTES: Final = 64 * 1024
DETAIL_MAX_CHARS: Final = 500
ERROR_MAX_CHARS: Final = 16_000
"""Of why an attempt failed: for those who look after a dead job. Its device is told the beginning."""

# `changed` and `removed` are given by the worker when the request file is no longer the one that was announced;
# `unavailable` says that this installation is not set up for it, `over_budget` that its day's money is spent.
Outcome = Literal[
    "processed", "unreadable", "unsupported", "too_large", "unknown", "changed", "removed", "unavailable", "over_budget"
]

T = TypeVar("T", bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Task:
    """One request as a handler sees it. `name` is what the device called the file, checked; `path` is our copy.

    A small handler that is given `body` has it instead: there is nothing at `path`, and no folder to write into.
    """

    name: str
    path: Path
    output: Path
    options: Mapping[str, Any] = field(default_factory=dict)
    body: bytes | None = None

    def option(self, name: str, default: T) -> T:
        """A setting of the operator, `<kind>.<name>`; the default when it is not set or of another type."""
        value = self.options.get(name, default)
        return value if type(value) is type(default) else default


@dataclass(frozen=True, slots=True)
class ResponseFile:
    """A file the handler wrote into `task.output`, directly and not in a folder."""

    name: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes into response.json: at most 32 files, and a summary of at most 64 KiB as JSON."""

    outcome: Outcome
    detail: str | None = None
    files: tuple[ResponseFile, ...] = ()
    summary: dict[str, Any] = field(default_factory=dict)


class Refusal(Exception):
    """The file cannot be processed, now or later; the device is told why. `str()` is for the person who sent it."""

    outcome: Outcome = "unreadable"

    def answer(self) -> Answer:
        """The refusal as an answer without files."""
        return Answer(self.outcome, str(self)[:DETAIL_MAX_CHARS])


class Unreadable(Refusal):
    """The content is damaged, cut short, or not what its name says."""


class Unsupported(Refusal):
    """A format that is known by name and not taken."""

    outcome: Outcome = "unsupported"


class TooLarge(Refusal):
    """More pixels, bytes or memory than a handler may use."""

    outcome: Outcome = "too_large"


class Handler(Protocol):
    """One kind of request."""

    @property
    def kind(self) -> str:
        """The kind, as in jobs and metrics: a-z, 0-9, - and _."""

    @property
    def extensions(self) -> frozenset[str]:
        """File name extensions it takes, lower case with the dot.

        A set `also_answers` beside it, if there is one, names those it only explains: raw photos, for example.
        """

    def recognises(self, head: bytes) -> bool:
        """Whether the first bytes (up to 4 KiB) are of this kind, for files whose extension says nothing."""

    def run(self, task: Task) -> Answer:
        """Do the work. Blocking; the process has nothing else to do."""
