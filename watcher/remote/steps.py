"""What each step writes, inside its transaction.

Whatever a provider tells is judged in one place: a page of its log, what lies below a folder that came in, files below
a folder that moved, files that waited. What it announces and what the ledger says of it are committed together with the
cursor, so a step that is done again finds its own work and announces nothing twice.

An event needs the sha256 of its file. Where nobody knows it yet, nothing is committed and `NeedsHashes` says what is to
be read; the same step is then tried with what was found.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from shared.cloud.provider import Changed, Object
from shared.store.items import ItemState
from shared.store.remote_items import Found, Known, RemoteItem
from watcher.announce import Announcement
from watcher.places import Place, locate
from watcher.remote.effects import List, Record, Settle
from watcher.remote.judge import RemoteSeen, is_same_content, judge
from watcher.remote.ledger import Ledger
from watcher.remote.outcome import Content, Hashes, NeedsHashes, Settled, Told, Unreadable
from watcher.remote.placing import BATCH, Placing
from watcher.translate import Verdict

SWEEP_ROWS: Final = 4000
_REFUSED_S: Final = 3600.0


@dataclass(slots=True)
class Steps:
    """The steps of one feed, on a ledger inside a transaction. `told` is what came of the one that was done.

    Items in `skip` are passed by, as if nobody had told of them. `items` are the files that the step is about.
    """

    ledger: Ledger
    hashes: Hashes
    told: Told = field(default_factory=Told)
    skip: Collection[str] = frozenset()
    items: dict[str, None] = field(default_factory=dict)

    async def page(self, record: Record) -> None:
        """A page with its cursor."""
        page = record.page
        # Without its folder a file would have no place, and pass.
        self.items = dict.fromkeys(
            one.item_id for one in page.changes if isinstance(one, Changed) and one.kind == "file"
        )
        if record.begins is not None:
            await self.ledger.begin_full(record.generation, record.begins)
        told = len(page.changes) if record.full else None
        await self.ledger.paged(page.cursor, record.phase, more=page.more, changed=bool(page.changes), told=told)
        if record.ends:
            await self.ledger.swept()
        seen = await Placing(self.ledger, self.told, record.baseline, self.skip).page(record)
        await self._judge(seen, run=record.generation if record.full and page.span is None else None)
        if not page.more:
            self.told.unsettled |= await self.ledger.told_again()

    async def listed(self, effect: List, found: Sequence[tuple[Object, str | None]]) -> None:
        """What lies below a folder: objects with the ids of the folders they lie in."""
        seen = [
            RemoteSeen(
                one.object_id,
                place,
                parent,
                one.version,
                one.size,
                one.hashes.get("sha256"),
                baseline=effect.baseline,
                generation=effect.generation,
                stand_in=one.stand_in,
            )
            for one, parent in found
            if isinstance(place := locate(one.path), Place) and place.name
        ]
        self.items = dict.fromkeys(one.item_id for one in seen)
        # They were told before this, and perhaps of an older version.
        await self.ledger.drop_unplaced([one.item_id for one in seen])
        await self._judge(seen)

    async def settle(self, effect: Settle) -> Settled:
        """A bounded part of what folders left."""
        result = Settled(more=True)
        seen = await Placing(self.ledger, self.told, effect.baseline).settle(result)
        await self._judge(seen)
        if not result.more:
            self.told.gone += await self.ledger.left()
        return result

    async def sweep(self, generation: int, above: str) -> str | None:
        """Forget what the run did not see above an id; how far that was, None at the end of the run."""
        reach, self.told.gone = await self.ledger.sweep(above, generation, SWEEP_ROWS)
        if reach is None:
            await self.ledger.sweep_folders(generation)
            await self.ledger.swept()
        return reach

    async def arrive(self) -> bool:
        """Take up files that waited; whether there may be more."""
        found = await self.ledger.arrivals(BATCH)
        if later := [one.item_id for one in found if one.item_id in self.skip]:
            await self.ledger.put_off(later, _REFUSED_S)
        await self._judge([one for one in map(_found_again, found) if one is not None])
        return len(found) >= BATCH

    async def _judge(self, seen: Sequence[RemoteSeen], *, run: int | None = None) -> None:
        """`run`: the generation that also what did not change is marked with, for the sweep to pass by."""
        self.items |= dict.fromkeys(one.item_id for one in seen)
        seen = [one for one in seen if one.item_id not in self.skip]
        if not seen:
            return
        asked = [(one.item_id, one.place.device_id, one.place.top_folder) for one in seen]
        known = await self.ledger.facts(asked)
        rows: list[RemoteItem] = []
        unchanged: list[str] = []
        announced: list[Announcement] = []
        needed: list[Content] = []
        for told_of, facts in zip(seen, known, strict=True):
            one, verdict, retry_s = self._decide(told_of, facts, needed)
            self.told.verdicts.append(verdict)
            if verdict is Verdict.UNCHANGED:
                unchanged.append(one.item_id)
                continue
            rows.append(_row(one, facts, verdict, retry_s))
            if verdict is Verdict.ANNOUNCED:
                object_id = one.item_id if one.item_id != one.place.path else None
                announced.append(
                    Announcement(
                        one.place, one.size, one.version, one.sha256, self.ledger.new_id(), object_id=object_id
                    )
                )
        if needed:
            raise NeedsHashes(needed)
        if rows:
            await self.ledger.put(rows)
        if unchanged and run is not None:
            await self.ledger.mark(unchanged, run)
        if announced:
            self.told.jobs, self.told.events = await self.ledger.announce(announced)

    def _decide(
        self, seen: RemoteSeen, facts: Known, needed: list[Content]
    ) -> tuple[RemoteSeen, Verdict, float | None]:
        """The file, with its hash if it needs one; the verdict; for how long to let it be when it cannot be read."""
        if seen.sha256 is None and is_same_content(seen, facts):
            seen = replace(seen, sha256=facts.sha256)
        verdict = judge(seen, facts)
        if verdict is not Verdict.ANNOUNCED or seen.place.area == "request" or seen.sha256 is not None:
            return seen, verdict, None
        content = self.hashes.get((seen.item_id, seen.version))
        if content is None:
            needed.append(Content(seen.item_id, seen.place.path, seen.version, seen.size))
            return seen, verdict, None
        if isinstance(content, Unreadable):
            return seen, Verdict.WAITING, content.retry_s
        seen = replace(seen, version=content.version, size=content.size, sha256=content.sha256)
        return seen, judge(seen, facts), None


_STATES: Final[dict[Verdict, ItemState]] = {
    Verdict.RESERVED: "reserved",
    Verdict.BASELINE: "baseline",
    Verdict.WAITING: "waiting",
    Verdict.ANNOUNCED: "announced",
}


def _row(seen: RemoteSeen, known: Known, verdict: Verdict, retry_s: float | None) -> RemoteItem:
    # By a hash a file may turn out to be what the ledger has already.
    state = known.state if verdict is Verdict.TOUCHED else _STATES[verdict]
    if state is None:
        raise AssertionError("only what is in the ledger can be touched")
    place = seen.place
    return RemoteItem(
        seen.item_id,
        place.path,
        place.device_id,
        place.area,
        state,
        seen.version,
        seen.size,
        seen.parent_id,
        seen.sha256,
        seen.generation,
        retry_s,
    )


def _found_again(found: Found) -> RemoteSeen | None:
    place = locate(found.path) if found.path else None
    if not isinstance(place, Place):
        return None
    return RemoteSeen(found.item_id, place, found.parent_id, found.version, found.size, found.sha256)
