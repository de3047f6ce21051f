"""Where a file's job and its event are now, since when, who holds them, and whether they are stuck there.

Pure: told by what the database knows alone, so it needs no tracing and works when the processes do not. What is not
durable (published, fanned out, sent) it does not know; the spans of a traced file do.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from shared.store.whereabouts import EventFacts, JobFacts

__all__ = ["At", "Bounds", "Reached", "stages_of", "where"]

Place = Literal[
    "queued", "waiting to be tried again", "running", "recording", "recorded", "acked", "dead", "cancelled", "gone"
]
_OVER: Final = timedelta(0)


@dataclass(frozen=True, slots=True)
class Bounds:
    """Seconds after which a wait is no wait any more: for a worker, at work, and for the ack of a connected device."""

    lease_s: float
    heartbeat_s: float
    hub_silence_s: float
    queued_s: float = 30.0
    running_s: float = 300.0
    unacked_s: float = 60.0


@dataclass(frozen=True, slots=True)
class At:
    """`stuck` says why, for a person; None while nothing is wrong."""

    place: Place
    since: datetime
    holder: str | None
    stuck: str | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A stage, when it was reached, and `lag_s` from the one before. Not `exact`: it was reached by then."""

    stage: str
    at: datetime
    lag_s: float
    exact: bool = True


def where(job: JobFacts | None, event: EventFacts | None, bounds: Bounds) -> At | None:
    """The event's place once there is one, else the job's; None when neither is known."""
    if event is not None and event.seq is not None:
        return _where_event(event, bounds)
    if event is not None and job is not None and job.event_id is not None and event.seq is None:
        return At("gone", job.finished_at or job.created_at, None, None)
    return None if job is None else _where_job(job, bounds)


def _where_job(job: JobFacts, bounds: Bounds) -> At:
    match job.status:
        case "running":
            return _at_work(job, bounds)
        case "retry" if job.run_at > job.now:
            return At("waiting to be tried again", job.finished_at or job.run_at, None, None)
        case "queued" | "retry":
            since = max(job.run_at, job.created_at)
            waited = (job.now - since).total_seconds()
            stuck = None
            if waited > bounds.queued_s:
                stuck = f"no worker of the queue {job.queue!r} has taken it for {waited:.0f} s"
            return At("queued", since, f"queue {job.queue}", stuck)
        case "dead":
            return At("dead", job.finished_at or job.created_at, None, job.error)
        case "cancelled":
            return At("cancelled", job.finished_at or job.created_at, None, None)
        case _:
            return At("recording", job.finished_at or job.created_at, job.worker, None)


def _at_work(job: JobFacts, bounds: Bounds) -> At:
    since = job.started_at or job.created_at
    left_s = ((job.lease_until or job.now) - job.now).total_seconds()
    silent_s = bounds.lease_s - left_s
    stuck = None
    if left_s < 0:
        stuck = f"{job.worker} has not renewed its lease, which ended {-left_s:.0f} s ago; no other worker has taken it"
    elif silent_s > 1.5 * bounds.heartbeat_s:
        stuck = f"{job.worker} has been silent for {silent_s:.0f} s; its lease ends in {left_s:.0f} s"
    elif (ran_s := (job.now - since).total_seconds()) > bounds.running_s:
        stuck = f"{job.worker} has been at it for {ran_s:.0f} s"
    return At("running", since, job.worker, stuck)


def _where_event(event: EventFacts, bounds: Bounds) -> At:
    recorded_at = event.recorded_at or event.now
    if event.seq is not None and event.seq <= event.acked:
        return At("acked", event.acked_at or recorded_at, None, None)
    if event.hub is None or event.connected_at is None or _has_gone(event):
        # Nothing is wrong with it: it is delivered when the device is back.
        away = "" if event.disconnected_at is None else f" since {event.disconnected_at:%Y-%m-%dT%H:%M:%SZ}"
        return At("recorded", recorded_at, f"device {event.device_id}, not connected{away}", None)
    if event.hub_silent_s is None or event.hub_silent_s > bounds.hub_silence_s:
        ago = "is gone" if event.hub_silent_s is None else f"was last heard {event.hub_silent_s:.0f} s ago"
        return At("recorded", recorded_at, event.hub, f"{event.hub} {ago}")
    waited = (event.now - max(recorded_at, event.connected_at)).total_seconds()
    stuck = None
    if waited > bounds.unacked_s:
        stuck = f"device {event.device_id}, connected to {event.hub}, has not acked it for {waited:.0f} s"
    return At("recorded", recorded_at, f"{event.hub}, device {event.device_id}", stuck)


def _has_gone(event: EventFacts) -> bool:
    return event.disconnected_at is not None and (
        event.connected_at is None or event.disconnected_at - event.connected_at >= _OVER
    )


def stages_of(job: JobFacts | None, event: EventFacts | None) -> list[Reached]:
    """The stages that the database knows of, in the order of time, each with its lag."""
    known: list[tuple[str, datetime, bool]] = []
    if job is not None:
        times = (("detected", job.detected_at), ("queued", job.created_at), ("claimed", job.started_at))
        known += [(stage, at, True) for stage, at in times if at is not None]
    if event is not None and event.seq is not None and event.recorded_at is not None:
        known.append(("recorded", event.recorded_at, True))
        if event.acked >= event.seq and event.acked_at is not None:
            # Only the newest ack has its time: an event before it was acked by then.
            known.append(("acked", event.acked_at, event.acked == event.seq))
    elif job is not None and job.finished_at is not None:
        known.append((job.status, job.finished_at, True))
    return list(_with_lags(known))


def _with_lags(known: Iterable[tuple[str, datetime, bool]]) -> Iterable[Reached]:
    before: datetime | None = None
    for stage, at, exact in known:
        yield Reached(stage, at, max(0.0, (at - (before or at)).total_seconds()), exact)
        before = at
