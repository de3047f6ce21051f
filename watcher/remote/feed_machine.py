"""One feed under one term, as a machine [pure]: what happened in, the next step out.

The order of steps is what keeps the ledger true. A page is committed before the next one is asked for. What folders
left to be done waits until the provider has told everything it had, since a file that was moved out of a folder may be
told after the folder's end. A run over everything marks what it sees with a new generation, also when it begins anew
after its cursor was lost on the way; what it did not see is forgotten when all of it is told and settled. Where pages
tell ids in their order, each forgets what was not told between its ends instead, and nothing is marked: a run over what
did not change writes no rows.

Polls come soon while things change and ever later while they do not. A hint makes the next one due; one that comes
while the provider is being asked makes another due after it, because the answer may be older than the hint. What the
provider asks for (a rate limit, a longer interval) is kept, and trouble waits ever longer.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from shared.backoff import full_jitter
from shared.cloud.provider import ChangePage
from shared.store.phases import Phase
from watcher.remote.effects import Arrive, Effect, Fetch, List, Record, Settle, Sweep, Wait

if TYPE_CHECKING:
    from random import Random

_LIMIT_MAX_S: Final = 3600.0
_FIRST: Final = "first"
_NEVER: Final = float("inf")


@dataclass(frozen=True, kw_only=True, slots=True)
class PollTimes:
    """Seconds. `idle_s` is the longest between two polls; `resync_s` between two runs over everything.

    `keep_s`: a cursor that moved while nothing changed is kept that often.
    """

    active_s: float = 1.0
    idle_s: float = 10.0
    gap_s: float = 0.1
    growth: float = 1.5
    error_base_s: float = 0.5
    error_max_s: float = 60.0
    store_error_max_s: float = 2.0
    resync_s: float = 86400.0
    keep_s: float = 60.0


@dataclass(frozen=True, kw_only=True, slots=True)
class FeedStart:
    """What the feed's row says when its owner begins."""

    cursor: str | None
    phase: Phase = "changes"
    more: bool = False
    generation: int = 0
    baselined: bool = False
    unsettled: bool = False
    scanned_age_s: float = _NEVER
    full_asked: bool = False


class FeedMachine:
    """`next()` says what to do; then one of the `on_` calls says what came of it. Times are monotonic seconds."""

    def __init__(
        self, start: FeedStart, times: PollTimes, rand: "Random", now: float, *, baseline: bool = True
    ) -> None:
        """`baseline`: responses that the first run over everything comes upon were there before us."""
        self.cursor = start.cursor
        self.phase: Phase = start.phase
        self.more = start.more
        self.generation = start.generation
        self.baselined = start.baselined
        self.unsettled = start.unsettled
        self.caught_up_at = now
        """When the provider was last asked and had no more to tell."""
        self.pages = 0
        self.resyncs = 0
        self._times = times
        self._rand = rand
        self._baseline = baseline
        self._page: Record | None = None
        self._fetch: Fetch | None = None
        self._fetched_at = now
        self._list: List | None = None
        self._above = ""
        self._begins: str | None = None
        self._restart: str | None = None
        self._asked = start.full_asked
        self._arrivals = True
        self._hinted = False
        self._interval = times.active_s
        self._poll_at = now
        self._not_before = now
        self._cloud_from = now
        self._store_from = now
        self._cloud_errors = 0
        self._store_errors = 0
        self._expired = 0
        self._kept_at = now
        # Whether files may be leaving, which the end of what the provider tells next is to decide.
        self._doubts = True
        known_age = start.scanned_age_s if start.scanned_age_s < _NEVER else 0.0
        self._full_at = now + max(0.0, times.resync_s - known_age) * rand.uniform(0.9, 1.1)
        if start.cursor is None:
            self._begins = _FIRST

    def __repr__(self) -> str:
        return f"FeedMachine({self.phase}, generation {self.generation}, {self.pages} pages)"

    # What to do.

    def next(self, now: float) -> Effect:
        """The next step. One that is told here is done, and what came of it said, before the next is asked for."""
        if now < self._store_from:
            return Wait(self._store_from)
        if self._page is not None:
            return self._page
        if self._arrivals:
            return Arrive()
        cloud_allowed = now >= self._cloud_from
        if not self.more and self.phase != "full" and self._begins is None:
            if self._list is not None:
                return self._list if cloud_allowed else Wait(self._cloud_from)
            if self.unsettled:
                return Settle(self._in_baseline())
            if self.phase == "sweep":
                return Sweep(self.generation, self._above)
            if self._asked or now >= self._full_at:
                self._begins = "asked" if self._asked else "due"
        if not cloud_allowed:
            return Wait(self._cloud_from)
        if self._begins is not None:
            return self._ask(Fetch(self._restart, self._begins), now)
        if self.more:
            return self._ask(Fetch(self.cursor), now)
        if now < self._due():
            return Wait(min(self._due(), self._full_at))
        return self._ask(Fetch(self.cursor), now)

    def _ask(self, fetch: Fetch, now: float) -> Fetch:
        self._fetch = fetch
        if fetch.begins is not None or not self.more:
            # What is told from here on is as new as now; later pages of the same run need not be.
            self._fetched_at = now
            self._hinted = False
        return fetch

    def _due(self) -> float:
        return max(self._poll_at, self._not_before)

    # What somebody says.

    def on_hint(self, now: float) -> None:
        """There may be changes."""
        self._hinted = True
        self._interval = self._times.active_s
        self._poll_at = min(self._poll_at, max(now, self._fetched_at + self._times.gap_s))

    def on_arrivals(self) -> None:
        """Files that waited need not wait any longer."""
        self._arrivals = True

    def on_full_asked(self) -> None:
        """Somebody wants a run over everything."""
        self._asked = True

    # What came of a step.

    def on_fetched(self, page: ChangePage, now: float) -> None:
        """The provider told a page."""
        asked, self._fetch = self._fetch, None
        assert asked is not None, "a page answers a Fetch"
        self._cloud_errors = 0
        self.pages += 1
        begins = asked.begins
        if page.full and begins is None and self.phase != "full":
            begins = "provider"
        full = begins is not None or self.phase == "full"
        ends = full and not page.more and page.span is not None
        if full and not ends:
            phase: Phase = "full" if page.more else "sweep"
        else:
            phase = "changes"
        if page.hint_s is not None:
            self._not_before = now + min(page.hint_s, _LIMIT_MAX_S)
        if not page.more:
            self.caught_up_at = self._fetched_at
        idle = not page.changes and not full and not page.more and not self.more and not self._doubts
        if idle and now < self._kept_at + self._times.keep_s:
            self.cursor = page.cursor
            self._rest(now)
            return
        generation = self.generation + 1 if begins is not None else self.generation
        self._page = Record(page, generation, phase, begins, self._in_baseline() and full, ends)

    def on_recorded(self, now: float, *, unsettled: bool = False) -> None:
        """The page is committed. `unsettled`: folders in it left something to be done."""
        record, self._page = self._page, None
        assert record is not None, "a page is recorded after it was told"
        self._store_errors = 0
        self._kept_at = now
        if record.begins is not None:
            self._begins = self._restart = None
            self._asked = False
            self._above = ""
            self.resyncs += 1
            self._full_at = _NEVER
            self.generation = record.generation
        self.cursor = record.page.cursor
        self.phase = record.phase
        self.more = record.page.more
        self._doubts = self._doubts and record.page.more
        self.unsettled = self.unsettled or unsettled
        if record.ends:
            self._run_ended(now)
        if record.page.changes and not record.full:
            self._interval = self._times.active_s
            self._rest(now, grow=False)
        else:
            self._rest(now)

    def on_settled(self, *, more: bool, to_list: tuple[str, str] | None = None, doubts: bool = False) -> None:
        """A part of what folders left is done. `to_list` is (folder id, path); `doubts`: files are said to leave."""
        self._store_errors = 0
        self._doubts = self._doubts or doubts
        self.unsettled = more
        if to_list is not None:
            self._list = List(*to_list, self.generation, self._in_baseline())

    def on_listed(self) -> None:
        """What lies below the folder is committed."""
        self._store_errors = self._cloud_errors = 0
        self._list = None

    def on_swept(self, reach: str | None, now: float) -> None:
        """What was not seen up to `reach` is forgotten; None: all, and the run is over, which is committed too."""
        self._store_errors = 0
        if reach is not None:
            self._above = reach
            return
        self._run_ended(now)
        self._rest(now)

    def on_arrived(self, *, more: bool) -> None:
        """Those that could be taken up are; `more`: there may be others."""
        self._store_errors = 0
        self._arrivals = more

    def on_store_failed(self, now: float) -> None:
        """Postgres could not do it, or did it and could not say so: the step is due again."""
        times = self._times
        self._store_from = (
            now + 0.05 + full_jitter(self._store_errors, self._rand, base=0.1, cap=times.store_error_max_s)
        )
        self._store_errors += 1
        # What was committed though nobody heard of it says nothing of folders and doubts when it is done again.
        self.unsettled = self._doubts = True

    def on_content_failed(self, wait_s: float, now: float) -> None:
        """What a step needs of the provider's content cannot be had now; the step is due again."""
        self._store_from = now + min(max(wait_s, 0.05), _LIMIT_MAX_S)

    def on_limited(self, retry_after_s: float, now: float) -> None:
        """The provider was asked too much."""
        self._fetch = None
        self._cloud_from = now + min(max(retry_after_s, 0.05), _LIMIT_MAX_S) * self._rand.uniform(1.0, 1.1)

    def on_cloud_failed(self, now: float) -> None:
        """The provider did not do it."""
        self._fetch = None
        times = self._times
        wait = full_jitter(self._cloud_errors, self._rand, base=times.error_base_s, cap=times.error_max_s)
        self._cloud_from = now + times.error_base_s / 2 + wait
        self._cloud_errors += 1

    def on_expired(self, restart: str | None, now: float) -> None:
        """The provider forgot the cursor: everything is to be told anew, from `restart` if it says so."""
        self._fetch = None
        self._begins, self._restart = self._begins if self._begins == _FIRST else "expired", restart
        self.more = False
        self._list = None
        if self._expired:
            self.on_cloud_failed(now)
        self._expired += 1

    # Below, the parts.

    def _run_ended(self, now: float) -> None:
        self._above = ""
        self.phase = "changes"
        self.baselined = True
        self._expired = 0
        self._full_at = now + self._times.resync_s * self._rand.uniform(0.9, 1.1)

    def _in_baseline(self) -> bool:
        return self._baseline and not self.baselined

    def _rest(self, now: float, *, grow: bool = True) -> None:
        times = self._times
        if self._hinted:
            self._poll_at = max(now, self._fetched_at + times.gap_s)
            return
        self._poll_at = now + self._interval * self._rand.uniform(0.9, 1.0)
        if grow:
            self._interval = min(times.idle_s, self._interval * times.growth)
