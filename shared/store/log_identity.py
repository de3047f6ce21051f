"""Is this still the log that positions were given in? Checked on every new connection to a primary.

Three signs of a log that lost its end: another system or timeline (a failover, a restore into a new cluster), and, for
a copy of the files put back in place, which keeps both, an event that this process recorded and that is no longer
there. Whichever shows first, the epoch is raised by compare-and-set, so that many processes that notice at once raise
it once. A device whose position is above the head is the fourth sign and raises the epoch of that device alone: a
device that lies hurts only itself. Behind a pooler an old connection may lead to a new server, so there the pool looks
every now and then as well.
"""

from typing import Any, NamedTuple

import structlog

from shared.store.queries import statements

__all__ = ["LogWitness", "Recorded"]

_SQL = statements("log_identity")
_log = structlog.get_logger(__name__)


class Recorded(NamedTuple):
    """The newest event this process saw committed."""

    device_id: str
    epoch: int
    seq: int
    event_id: str


class LogWitness:
    """What one process remembers of the log, to notice when it is led to another."""

    def __init__(self) -> None:
        self.newest: Recorded | None = None
        self.is_behind_pooler = False
        self._started_at: Any = None

    def saw(self, device_id: str, epoch: int, seq: int, event_id: str) -> None:
        """An event of ours is committed. Commits are in log order, so the newest stands for all before it."""
        self.newest = Recorded(device_id, epoch, seq, event_id)

    async def check(self, connection: Any) -> None:
        """Before a new connection is used: raise the epoch if it leads to a log that is not the one we knew."""
        row = await connection.fetchrow(_SQL["identify"])
        if row is None or row["replica"]:
            return
        # A pooler gives out numbers of its own.
        self.is_behind_pooler = row["backend"] != connection.get_server_pid()
        if row["system_id"] != row["known_system_id"] or row["timeline"] != row["known_timeline"]:
            await self._raise(connection, row, "failover or restore: system or timeline changed")
        elif (
            self._started_at is not None and row["started_at"] != self._started_at and await self._has_lost(connection)
        ):
            await self._raise(connection, row, "restored copy: a recorded event is no longer in the log")
        self._started_at = row["started_at"]

    async def _has_lost(self, connection: Any) -> bool:
        if self.newest is None:
            return False
        found = await connection.fetchrow(_SQL["find_witness"], self.newest.device_id, self.newest.seq)
        if found is None:
            return True  # not even the device is there
        if found["epoch"] > self.newest.epoch or found["floor_seq"] >= self.newest.seq:
            return False  # the loss was declared already, or retention took the event
        return bool(found["event_id"] != self.newest.event_id)

    async def _raise(self, connection: Any, row: Any, reason: str) -> None:
        epoch = await raise_epoch(connection, row["epoch"], reason)
        _log.warning(
            "log epoch raised", reason=reason, epoch=epoch, system_id=row["system_id"], timeline=row["timeline"]
        )


async def raise_epoch(connection: Any, seen_epoch: int, reason: str) -> int:
    """Raise the epoch of the log and of every device, if it still is `seen_epoch`. Returns the epoch that holds now.

    One transaction, all devices: a position of before is older than any of after.
    """
    async with connection.transaction():
        raised = await connection.fetchval(_SQL["raise_log_epoch"], seen_epoch, reason)
        if raised is not None:
            # In id order, as appends lock them; cursors after devices.
            await connection.execute(_SQL["lock_all_devices"])
            await connection.execute(_SQL["raise_all_devices"], raised)
            await connection.execute(_SQL["lock_all_cursors"])
            await connection.execute(_SQL["raise_all_cursors"])
            return int(raised)
        return int(await connection.fetchval(_SQL["current_epoch"]))
