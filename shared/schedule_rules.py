"""When a schedule fires: by a cron expression in a time zone, or every so many seconds. Pure; the time is the caller's.

At the change to summer time, what is said of an hour that is left out happens right after it; in the hour that comes
twice, what is said of one time happens once and what is said of every minute goes on, as with cron itself.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

__all__ = ["EVERY_MAX_S", "EVERY_MIN_S", "Rule", "WrongRule"]

EVERY_MIN_S: Final = 10
EVERY_MAX_S: Final = 366 * 86_400
_CRON_MAX_CHARS: Final = 128
_FIELDS: Final = 5


class WrongRule(ValueError):
    """It says nothing that could be followed; the message says what is wrong, `field` where."""

    def __init__(self, field: str, detail: str) -> None:
        super().__init__(detail)
        self.field = field


@dataclass(frozen=True, slots=True)
class Rule:
    """One of the two. Raises WrongRule when made of something else."""

    cron: str | None
    every_s: int | None
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if (self.cron is None) == (self.every_s is None):
            raise WrongRule("cron", "give either cron, such as '30 6 * * MON-FRI', or every_s, such as 3600")
        zone = self._zone()
        if self.every_s is not None:
            if not EVERY_MIN_S <= self.every_s <= EVERY_MAX_S:
                raise WrongRule("every_s", f"every_s must be {EVERY_MIN_S} to {EVERY_MAX_S} seconds")
            return
        cron = self.cron or ""
        if len(cron) > _CRON_MAX_CHARS or len(cron.split()) != _FIELDS:
            raise WrongRule("cron", "cron has five fields: minute, hour, day of the month, month, day of the week")
        try:
            next(CronSim(cron, datetime(2000, 1, 1, tzinfo=zone)))
        except CronSimError as error:
            raise WrongRule("cron", f"cron is wrong: {error}") from None
        except StopIteration:
            raise WrongRule("cron", "cron names a day that never comes") from None

    def next_after(self, now: datetime, last: datetime | None = None) -> datetime:
        """The first time after `now`. What is due every so often keeps its step from `last`, also past missed ones."""
        if self.every_s is not None:
            step = timedelta(seconds=self.every_s)
            if last is None or last > now:
                return now + step
            return last + ((now - last) // step + 1) * step
        try:
            return next(CronSim(self.cron or "", now.astimezone(self._zone()))).astimezone(UTC)
        except StopIteration:
            raise WrongRule("cron", "cron names a day that does not come any more") from None

    def _zone(self) -> ZoneInfo:
        try:
            return ZoneInfo(self.timezone)
        except (ValueError, OSError, LookupError):
            raise WrongRule("timezone", "timezone is not known here; take one such as Europe/Berlin or UTC") from None
