"""The whole fleet as a page shows it: hubs, feeds, stages, and the devices that somebody looks at.

Every read is bounded: by what it returns, by how far it walks, or, where it counts everything, by its caller, who asks
the more seldom the longer it takes.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID

from shared.store.hubs import HubRow
from shared.store.pool import Pool, Reader
from shared.store.queries import statements

__all__ = [
    "LOOKED_AT_MAX",
    "WALK_MAX",
    "Census",
    "DevicePage",
    "DeviceRow",
    "FeedGroup",
    "JobFile",
    "SeenHub",
    "StageTimes",
    "census",
    "dead_jobs",
    "device_page",
    "devices",
    "feeds",
    "hubs",
    "job_files",
    "stage_times",
]

_SQL = statements("fleet_view")

WALK_MAX: Final = 5000
"""Most devices that one page looks at; the statement says the same number."""
LOOKED_AT_MAX: Final = 2000
"""Most devices that are read at once because somebody looks at them."""

_HUB_FIELDS: Final = len(HubRow._fields)
# Above every device id.
_LAST: Final = "\x7f"


class SeenHub(NamedTuple):
    """A hub, how long ago it was heard and how long it has run."""

    row: HubRow
    silent_s: float
    up_s: float


class DeviceRow(NamedTuple):
    """A device and where its log stands; ages in seconds."""

    device_id: str
    device_class: str
    epoch: int
    head: int
    floor: int
    acked: int
    hub: str | None
    flaps: float
    acked_s: float | None
    connected_s: float | None
    away_s: float | None


class DevicePage(NamedTuple):
    """Ids in order, and the one after which the next page begins; None when there is none."""

    device_ids: Sequence[str]
    last: str | None


class Census(NamedTuple):
    """All devices together. `backlog` are events that were not acked, `recorded` all that ever were recorded."""

    devices: int
    connected: int
    behind: int
    behind_here: int
    backlog: int
    recorded: int
    epoch: int | None


class FeedGroup(NamedTuple):
    """Feeds of one provider and root that one watcher holds, or nobody (None); ages in seconds."""

    provider: str
    root: str
    owner: str | None
    feeds: int
    term_min: int | None
    term_max: int | None
    stale_s: float | None
    changed_s: float | None
    in_full: int
    more: int


class StageTimes(NamedTuple):
    """Median, 95th and 99th percentile of seconds from a job's stage to its next, over so many jobs."""

    jobs: int
    recorded: Sequence[float | None]
    claimed: Sequence[float | None]
    answered: Sequence[float | None]


class JobFile(NamedTuple):
    """One file of a job's response."""

    file_id: UUID
    name: str
    size: int
    sha256: str
    content_type: str


async def hubs(pool: Pool) -> list[SeenHub]:
    """Hubs of the last hour, by name."""
    rows = [tuple(row) for row in await pool.fetch(_SQL["hubs"])]
    return [SeenHub(HubRow(*row[:_HUB_FIELDS]), *row[_HUB_FIELDS:]) for row in rows]


async def devices(pool: Pool, device_ids: Sequence[str]) -> list[DeviceRow]:
    """Those of the devices that exist, in no order."""
    if not device_ids:
        return []
    return [_device(row) for row in await pool.fetch(_SQL["devices"], list(device_ids)[:LOOKED_AT_MAX])]


def _device(row: Any) -> DeviceRow:
    found = DeviceRow(*row)
    # A device that never came has none of its own time.
    return found if found.hub is not None else found._replace(connected_s=None)


async def device_page(
    reader: Reader,
    *,
    after: str,
    prefix: str,
    limit: int,
    device_class: str | None = None,
    hub: str | None = None,
    state: str | None = None,
) -> DevicePage:
    """Ids that begin with `prefix` and come after `after`, of this class, at this hub and in this state."""
    # An id has only characters below this one, so this is above all that begin with the prefix.
    begin = max(after, _before(prefix)) if prefix else after
    found = await reader.fetch(_SQL["list"], begin, prefix + _LAST, limit + 1, device_class, hub, state)
    ids = [str(row["device_id"]) for row in found if row["matches"]]
    if len(ids) > limit:
        return DevicePage(ids[:limit], ids[limit - 1])
    cut_off = bool(found) and found[-1]["walked"] == WALK_MAX
    return DevicePage(ids, str(found[-1]["device_id"]) if cut_off else None)


def _before(prefix: str) -> str:
    """The last text before all that begin with the prefix, for ids."""
    return prefix[:-1] + chr(ord(prefix[-1]) - 1) + _LAST


async def census(pool: Pool) -> Census:
    """Counts all devices: ask seldom."""
    return Census(*(await pool.fetch(_SQL["census"]))[0])


async def feeds(pool: Pool) -> list[FeedGroup]:
    """All feeds, gathered by provider, root and owner."""
    return [FeedGroup(*row) for row in await pool.fetch(_SQL["feeds"])]


async def stage_times(pool: Pool) -> StageTimes:
    """How long jobs took lately."""
    row = (await pool.fetch(_SQL["stages"]))[0]
    none: Sequence[float | None] = (None, None, None)
    return StageTimes(row["jobs"], row["recorded"] or none, row["claimed"] or none, row["answered"] or none)


async def dead_jobs(pool: Pool) -> int:
    """How many jobs ended dead, up to a thousand."""
    return int((await pool.fetch(_SQL["dead"]))[0]["dead"])


async def job_files(pool: Pool, job_id: UUID) -> list[JobFile]:
    """The files of its response."""
    return [JobFile(*row) for row in await pool.fetch(_SQL["job_files"], job_id)]
