"""What goes into the steps that write, and what comes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from shared.bus.message import Message
from watcher.announce import QueuedJob
from watcher.places import Refused
from watcher.translate import Verdict


@dataclass(frozen=True, slots=True)
class Content:
    """A file whose content is to be read."""

    item_id: str
    path: str
    version: str
    size: int

    @property
    def object_id(self) -> str | None:
        """The provider's own id, where that is not the path."""
        return self.item_id if self.item_id != self.path else None


@dataclass(frozen=True, slots=True)
class Hashed:
    """What was read: perhaps a newer version than was asked for."""

    version: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """It cannot be read now; try again after `retry_s`."""

    retry_s: float


Hashes = Mapping[tuple[str, str], Hashed | Unreadable]
"""By item id and the version that was asked for."""


class AnyHashes(dict[tuple[str, str], Hashed | Unreadable]):
    """Of every content something that could be its hash, for a step that is only tried."""

    def get(self, key: tuple[str, str], default: object = None) -> Hashed | Unreadable:
        """Never the default."""
        return super().get(key) or Hashed(key[1], 0, "0" * 64)


class NeedsHashes(Exception):
    """Nothing was committed: these contents are to be read first."""

    def __init__(self, contents: Sequence[Content]) -> None:
        super().__init__(f"{len(contents)} files to be read")
        self.contents = contents


@dataclass(slots=True)
class Told:
    """What a committed step did. `unsettled`: it left something to be settled."""

    verdicts: list[Verdict] = field(default_factory=list)
    jobs: list[QueuedJob] = field(default_factory=list)
    events: list[Message] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
    gone: int = 0
    unsettled: bool = False


@dataclass(slots=True)
class Settled:
    """`more`: something may be left; `to_list`: (folder id, path) of a folder to be listed.

    `doubts`: files are said to leave, which what the provider tells next confirms or not.
    """

    more: bool
    to_list: tuple[str, str] | None = None
    doubts: bool = False
