"""A position kept with the application's own data: the effects of each event happen exactly once."""

import asyncio
import sqlite3
from pathlib import Path
from random import Random

import pytest

from device import Client, Event, Saved, Timing
from device.position_file import PositionFile
from device.positions import FileLedger
from device.seen import SeenEvent, fingerprint
from shared.protocol.position import Position, parse_position
from tests.device.fleet import Fleet, make_event

FAST = Timing().faster(20)


class Ledger:
    """An application's database: what events did, and how far they came, in one transaction."""

    def __init__(self, path: Path) -> None:
        self.database = sqlite3.connect(path, isolation_level=None)
        self.database.execute("create table if not exists effects (epoch int, event text, seen text)")
        self.database.execute("create table if not exists place (one int primary key, position text)")
        self.resets = 0

    def apply(self, event: Event, *, crash: bool = False) -> None:
        self.database.execute("begin")
        self.database.execute(
            "insert into effects values (?, ?, ?)", (event.position.epoch, event.id, fingerprint(event.raw))
        )
        self.database.execute("replace into place values (1, ?)", (str(event.position),))
        if crash:
            self.database.execute("rollback")
            raise ZeroDivisionError
        self.database.execute("commit")

    async def load(self) -> Saved | None:
        row = self.database.execute("select position from place").fetchone()
        if row is None:
            return None
        seen = self.database.execute("select epoch, seen from effects").fetchall()
        return Saved(parse_position(row[0]), [SeenEvent(*event) for event in seen])

    async def reset(self, position: Position) -> None:
        self.resets += 1
        self.database.execute("replace into place values (1, ?)", (str(position),))

    def effects(self) -> list[str]:
        return [row[0] for row in self.database.execute("select event from effects order by rowid")]


async def run(fleet: Fleet, ledger: Ledger, *, upto: str, crash_at: str = "", ack: bool = True) -> None:
    """One run that ends without warning: nothing of it is finished by the client unless the loop came round."""
    client = Client("truck-7", token=fleet.token, api=fleet.api_url, position_store=ledger, timing=FAST, rand=Random(4))
    async with client, asyncio.timeout(20):
        async for event in client:
            ledger.apply(event, crash=event.id == crash_at)
            if event.id == upto:
                if ack:
                    await client.finish(event)
                return


async def test_what_was_committed_is_not_done_again_and_what_was_rolled_back_is(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(6)
    ledger = Ledger(tmp_path / "app.db")
    await run(fleet, ledger, upto="event-2", ack=False)  # committed, and gone before the client heard of it
    with pytest.raises(ZeroDivisionError):
        await run(fleet, ledger, upto="event-9", crash_at="event-4")
    await run(fleet, ledger, upto="event-6")
    assert ledger.effects() == [f"event-{n}" for n in range(1, 7)]
    await asyncio.wait_for(fleet.until_acked(6), 10)


async def test_the_first_ack_of_a_run_is_what_was_committed(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(2)
    ledger = Ledger(tmp_path / "app.db")
    await run(fleet, ledger, upto="event-2", ack=False)
    assert fleet.acked == 1
    async with Client("truck-7", token=fleet.token, api=fleet.api_url, position_store=ledger, timing=FAST):
        await asyncio.wait_for(fleet.until_acked(2), 10)
    assert fleet.first_frames[-1] == {"type": "ack", "seq": 2}


async def test_a_lost_log_does_nothing_twice(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(4)
    ledger = Ledger(tmp_path / "app.db")
    await run(fleet, ledger, upto="event-4")
    await fleet.lose(3, acked=1)
    fleet.events.append(make_event(4, event_id="other-4"))
    await run(fleet, ledger, upto="other-4")
    assert ledger.effects() == ["event-1", "event-2", "event-3", "event-4", "other-4"]
    assert ledger.resets == 1


async def test_a_position_that_cannot_be_written_ends_the_loop_and_is_never_acked(fleet: Fleet, tmp_path: Path) -> None:
    class Broken(Ledger):
        async def reset(self, position: Position) -> None:
            raise sqlite3.OperationalError("disk full")

    await fleet.publish(3)
    ledger = Broken(tmp_path / "app.db")
    await run(fleet, ledger, upto="event-1")
    await fleet.trim(2)
    with pytest.raises(sqlite3.OperationalError):
        await run(fleet, ledger, upto="event-3")
    assert fleet.acked == 1


async def test_one_sync_serves_all_that_wait(tmp_path: Path) -> None:
    file = PositionFile(tmp_path, "truck-7")
    ledger = FileLedger(file)
    for seq in range(1, 50):
        await ledger.finished(Position(1, seq), f"{seq:016x}")
    await asyncio.gather(*(ledger.sync() for _ in range(20)))
    dirty_after_sync = file.dirty
    await ledger.started(Position(1, 50), "a" * 16, durable=True)
    assert (dirty_after_sync, file.dirty) == (False, False)
    ledger.close()
