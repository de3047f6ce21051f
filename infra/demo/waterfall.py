"""When each stage of an event's life was, read back from the database and drawn as a waterfall.

Postgres and the devices of the demonstration are on one machine and share its clock, so times of both can be compared.
"""

from dataclasses import dataclass

from shared.store.pool import Pool

__all__ = ["Stages", "read_stages", "render"]

_WIDTH = 40
_READ = """
SELECT extract(epoch FROM jobs.detected_at)::float8 AS detected,
       extract(epoch FROM jobs.created_at)::float8 AS queued,
       extract(epoch FROM jobs.started_at)::float8 AS claimed,
       extract(epoch FROM events.recorded_at)::float8 AS recorded
FROM jobs JOIN events ON events.device_id = jobs.device_id AND events.seq = $3
WHERE jobs.device_id = $1 AND jobs.name = $2
"""


@dataclass(frozen=True)
class Stages:
    """One event: seconds since the Unix epoch for each stage, in order. A stage that nobody noted is left out."""

    title: str
    times: tuple[tuple[str, float], ...]


async def read_stages(
    pool: Pool,
    *,
    device_id: str,
    request_name: str,
    seq: int,
    dropped_at: float,
    published_at: float | None,
    received_at: float,
    saved_at: float,
    acked_at: float | None,
) -> Stages:
    """The stages of the event that answered this request."""
    rows = await pool.fetch(_READ, device_id, request_name, seq)
    noted = dict(rows[0]) if rows else {}
    times = [("dropped", dropped_at)]
    times += [(name, noted[name]) for name in ("detected", "queued", "claimed", "recorded") if noted.get(name)]
    if published_at is not None:
        times.append(("published", published_at))
    times += [("received", received_at), ("files checked", saved_at)]
    if acked_at is not None:
        times.append(("acked", acked_at))
    return Stages(f"{device_id}  {request_name}", tuple(times))


def render(all_stages: list[Stages]) -> str:
    """One line for each stage: milliseconds since the file was there, milliseconds since the stage before, a bar."""
    longest = max(stages.times[-1][1] - stages.times[0][1] for stages in all_stages) or 1.0
    lines = []
    for stages in all_stages:
        began = before = stages.times[0][1]
        lines.append(stages.title)
        for name, at in stages.times:
            start, length = (before - began) / longest * _WIDTH, (at - before) / longest * _WIDTH
            bar = " " * round(start) + "█" * max(round(length), 0) + ("▏" if round(length) == 0 else "")
            lines.append(f"  {name:<14} {(at - began) * 1000:8.1f} ms  {f'+{(at - before) * 1000:.1f}':>9}  {bar}")
            before = at
        lines.append("")
    return "\n".join(lines)
