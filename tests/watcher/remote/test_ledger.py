"""Postgres does what the model of it does, page by page: so what is simulated is what runs."""

import asyncio
from random import Random
from typing import Any

import pytest

from loadtests.watching.model_drive import ModelDrive
from loadtests.watching.model_ledger import ModelStore
from loadtests.watching.world import DEVICES, PLACES, World
from shared.cloud.errors import CursorExpired
from shared.job_kinds import DEFAULT_KINDS
from shared.store import devices, feeds, leases
from shared.store.pool import Pool
from watcher.remote.effects import Arrive, Effect, Fetch, List, Record, Settle, Sweep, Wait
from watcher.remote.feed_machine import FeedMachine, FeedStart, PollTimes
from watcher.remote.outcome import Hashed, NeedsHashes
from watcher.remote.record import RemoteRecorder
from watcher.remote.steps import Steps

FEED = "drive:model"


async def tables(pool: Pool) -> dict[str, Any]:
    items = await pool.fetch(
        "SELECT item_id, path, device_id, area, state, content_version, size, parent_id, sha256, generation, leaving "
        "FROM items"
    )
    folders = await pool.fetch("SELECT item_id, parent_id, name, is_root, unsettled, generation FROM cloud_folders")
    unplaced = await pool.fetch("SELECT item_id, parent_id, name, version, generation FROM cloud_unplaced")
    (feed,) = await pool.fetch(
        "SELECT cursor, phase, more, generation, baseline_at IS NOT NULL AS baselined FROM feeds"
    )
    jobs = await pool.fetch("SELECT COALESCE(object_id, path), content_version, device_id FROM jobs")
    files = await pool.fetch("SELECT COALESCE(object_id, path), device_id FROM response_files")
    return {
        "items": {row["item_id"]: tuple(row)[1:] for row in items},
        "folders": {row["item_id"]: tuple(row)[1:] for row in folders},
        "unplaced": {row["item_id"]: tuple(row)[1:] for row in unplaced},
        "feed": tuple(feed),
        "jobs": sorted(tuple(row) for row in jobs),
        "files": sorted(tuple(row) for row in files),
    }


def modelled(store: ModelStore) -> dict[str, Any]:
    held = store.tables
    items = {
        item_id: (
            row.item.path,
            row.item.device_id,
            row.item.area,
            row.item.state,
            row.item.version,
            row.item.size,
            row.item.parent_id,
            row.item.sha256,
            row.generation,
            row.leaving,
        )
        for item_id, row in held.items.items()
    }
    folders = {
        item_id: (row.parent_id, row.name, row.is_root, row.unsettled, row.generation)
        for item_id, row in held.folders.items()
    }
    unplaced = {
        item_id: (one.parent_id, one.name, one.version, one.generation) for item_id, one in held.unplaced.items()
    }
    feed = held.feed
    jobs = [(one.item_id, one.version, one.device_id) for one in held.announced if one.area == "request"]
    return {
        "items": items,
        "folders": folders,
        "unplaced": unplaced,
        "feed": (feed.cursor, feed.phase, feed.more, feed.generation, feed.baselined),
        "jobs": sorted(jobs),
        "files": sorted((one.item_id, one.device_id) for one in held.announced if one.area == "response"),
    }


class Both:
    """Every step on the model and on Postgres, then compared."""

    def __init__(self, pool: Pool, drive: ModelDrive, term: int) -> None:
        self.pool = pool
        self.drive = drive
        self.term = term
        self.model = ModelStore(DEVICES)
        self.model.lease.term = term
        self.recorder = RemoteRecorder(
            pool,
            store=FEED,
            kinds=DEFAULT_KINDS,
            after_commit=lambda told: None,
            at_once=asyncio.Semaphore(2),
        )

    async def do(self, machine: FeedMachine, effect: Effect, now: float) -> None:
        recorder, term = self.recorder, self.term
        if isinstance(effect, Fetch):
            machine.on_fetched(self.drive.page_after(effect.cursor), now)
            return
        if isinstance(effect, Record):
            modelled_told = self._model(lambda steps: _told(steps, effect))
            told = await self._real(lambda hashes: recorder.page(FEED, term, effect, hashes))
            assert told.unsettled == modelled_told, "says of folders what the model says"
            machine.on_recorded(now, unsettled=told.unsettled)
        elif isinstance(effect, Settle):
            expected = self._model(lambda steps: steps.settle(effect))
            settled = await self._real(lambda hashes: recorder.settle(FEED, term, effect, hashes))
            assert settled == expected
            machine.on_settled(more=settled.more, to_list=settled.to_list, doubts=settled.doubts)
        elif isinstance(effect, List):
            paths = {self.drive.path_of(i): i for i, node in self.drive.nodes.items() if node.kind == "folder"}
            known = self.model.tables.folders
            found = [
                (one, paths[one.path.rpartition("/")[0]])
                for one in self.drive.objects(effect.path)
                if paths[one.path.rpartition("/")[0]] in known
            ]
            self._model(lambda steps: steps.listed(effect, found))
            await self._real(lambda hashes: recorder.listed(FEED, term, effect, found, hashes))
            self._model(lambda steps: steps.ledger.settled(effect.folder_id))
            await recorder.folder_listed(FEED, term, effect.folder_id)
            machine.on_listed()
        elif isinstance(effect, Sweep):
            expected_reach = self._model(lambda steps: steps.sweep(effect.generation, effect.above))
            reach = await recorder.sweep(FEED, term, effect.generation, effect.above)
            assert reach == expected_reach
            machine.on_swept(reach, now)
        elif isinstance(effect, Arrive):
            self._model(lambda steps: steps.arrive())
            machine.on_arrived(more=await self._real(lambda hashes: recorder.arrive(FEED, term, hashes)))
        assert await tables(self.pool) == modelled(self.model), effect

    def _hash(self, needs: NeedsHashes) -> dict[tuple[str, str], Hashed]:
        return {(one.item_id, one.version): Hashed(one.version, one.size, "0" * 64) for one in needs.contents}

    def _model(self, step: Any) -> Any:
        hashes: dict[tuple[str, str], Hashed] = {}
        for _ in range(9):
            try:
                return self.model.transaction(self.term, lambda ledger: step(Steps(ledger, hashes)))
            except NeedsHashes as needs:
                hashes.update(self._hash(needs))
        raise AssertionError("hashes were given")

    async def _real(self, step: Any) -> Any:
        hashes: dict[tuple[str, str], Hashed] = {}
        for _ in range(9):
            try:
                return await step(hashes)
            except NeedsHashes as needs:
                hashes.update(self._hash(needs))
        raise AssertionError("hashes were given")


async def _told(steps: Steps, effect: Record) -> bool:
    await steps.page(effect)
    return steps.told.unsettled


@pytest.mark.parametrize("seed", range(5))
async def test_postgres_does_what_its_model_does(pool: Pool, seed: int) -> None:
    await feeds.ensure(pool, [feeds.Feed(FEED, "drive", FEED, None)])
    await leases.ensure(pool, [FEED])
    for device_id in DEVICES:
        await devices.ensure(pool, device_id, "truck")
    term = (await leases.claim(pool, [FEED], "w1", ttl_s=600, limit=1))[FEED]
    world, rand = World(seed), Random(seed)  # its people act, its watchers do not
    drive = world.drive
    for place in PLACES:
        drive.folder(place)
    both = Both(pool, drive, term)
    machine = FeedMachine(FeedStart(cursor=None), PollTimes(active_s=0.0, idle_s=0.001), rand, 0.0)
    now, steps = 0.0, 0
    while steps < 150:
        effect = machine.next(now)
        if rand.random() < 0.3:
            world._act()
        if rand.random() < 0.01:
            drive.expire()
        if isinstance(effect, Wait):
            now = effect.until
            continue
        try:
            await both.do(machine, effect, now)
        except CursorExpired:
            machine.on_expired(None, now)
        steps += 1
    assert both.model.tables.announced, "something happened"
