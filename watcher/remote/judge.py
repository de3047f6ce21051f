"""What becomes of a file that a provider told of [pure].

The ledger knows items by the provider's ids, so a file that is renamed within its device's folder is the same file and
is not announced again. One that comes into the folder of another device, or from its requests to its responses, is
owed to that device and is new there. Content is told apart by the provider's own version of it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.cloud.provider import Change
from watcher.places import Place
from watcher.translate import Verdict

if TYPE_CHECKING:
    from shared.store.remote_items import Known


@dataclass(frozen=True, slots=True)
class RemoteSeen:
    """A file at its place. `baseline`: the first run over everything came upon it.

    `generation` is that in which the provider told of it; 0 when that it is there is inferred. `stand_in`: the version
    of the same content while its hash was not known.
    """

    item_id: str
    place: Place
    parent_id: str | None
    version: str
    size: int
    sha256: str | None = None
    baseline: bool = False
    generation: int = 0
    stand_in: str | None = None


def judge(seen: RemoteSeen, known: "Known") -> Verdict:
    """By the ledger alone: what is recorded with this content at this device is not announced again."""
    place = seen.place
    at_home = known.state is not None and (known.area, known.device_id) == (place.area, place.device_id)
    same = at_home and is_same_content(seen, known)
    stands = (known.path, known.parent_id, known.version) == (place.path, seen.parent_id, seen.version)
    stands = stands and not known.leaving
    as_it_was = Verdict.UNCHANGED if stands else Verdict.TOUCHED
    if place.area == "response" and (known.reserved or (at_home and known.state == "reserved")):
        return as_it_was if same and known.state == "reserved" else Verdict.RESERVED
    if same and known.state == "waiting" and known.device_known:
        return Verdict.ANNOUNCED
    if same:
        return as_it_was
    if place.area == "response" and seen.baseline:
        return Verdict.BASELINE
    return Verdict.ANNOUNCED if known.device_known else Verdict.WAITING


def is_same_content(seen: RemoteSeen, known: "Known") -> bool:
    """By the provider's word for it, or by the one that stood in for that."""
    return known.version is not None and known.version in (seen.version, seen.stand_in)


def last_of_each(changes: Iterable[Change]) -> Sequence[Change]:
    """Of each item what the page told last, in that order."""
    last: dict[str, Change] = {}
    for change in changes:
        last.pop(change.item_id, None)
        last[change.item_id] = change
    return list(last.values())
