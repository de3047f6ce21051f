"""What a feed is to do next [pure]: one step at a time, so that it may end between any two of them.

Each step that writes is one transaction under the term. Whoever begins anew after a crash does the last step again, or
one before it, and the ledger makes that harmless.
"""

from dataclasses import dataclass
from typing import TypeAlias

from shared.cloud.provider import ChangePage
from shared.store.phases import Phase


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the provider for the page after `cursor`. `begins`: why a run over everything begins with it, if one does."""

    cursor: str | None
    begins: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Commit a page and the cursor after it. `phase` is the feed's from then on; rows are marked with `generation`.

    `ends`: it ends a run over everything whose pages said by themselves what is gone.
    """

    page: ChangePage
    generation: int
    phase: Phase
    begins: str | None = None
    baseline: bool = False
    ends: bool = False

    @property
    def full(self) -> bool:
        """Whether the page is one of a run over everything."""
        return self.ends or self.phase != "changes"


@dataclass(frozen=True, slots=True)
class Settle:
    """Do a bounded part of what folders left to be done: forget, follow, or say which one is to be listed."""

    baseline: bool = False


@dataclass(frozen=True, slots=True)
class List:
    """Ask what lies below a folder that came into the watched areas, and commit it."""

    folder_id: str
    path: str
    generation: int
    baseline: bool = False


@dataclass(frozen=True, slots=True)
class Sweep:
    """Forget, among the next some thousand items above `above`, what the run did not see."""

    generation: int
    above: str


@dataclass(frozen=True, slots=True)
class Arrive:
    """Take up files that waited, for their device or for their content to be readable."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do until then, unless something is told."""

    until: float


Effect: TypeAlias = Fetch | Record | Settle | List | Sweep | Arrive | Wait
