"""`fleetwire demo`: a truck, a warehouse and an office each have a file answered; every stage is shown in milliseconds.

Real processes do all of it: the files are moved into the cloud folder, and the devices are real clients that download,
check and ack. It ends 0 only when every response came, every file held what was announced, and every ack is in the
database.
"""

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Final

from device.client import Client
from device.errors import DeviceError
from device.event import Event
from device.route import State
from infra.command_settings import CommandSettings
from infra.commands.device import device_token
from infra.commands.errors import CommandFailed
from infra.demo.bus_times import listening
from infra.demo.waterfall import Stages, read_stages, render
from infra.shown_commands import shown
from shared.clock import wall
from shared.settings import load
from shared.store import devices
from shared.store.pool import Pool, open_pool

__all__ = ["run"]

_FILES: Final = Path(__file__).with_name("files")
_ACK_DEADLINE_S: Final = 10.0


@dataclass
class Part:
    """One device of the demonstration and what becomes of its file."""

    device_id: str
    device_class: str
    sample: str
    kind: str
    request_name: str = ""
    dropped_at: float = 0.0
    received_at: float = 0.0
    saved_at: float = 0.0
    event: Event | None = None
    saved: list[Path] = field(default_factory=list)
    live: asyncio.Event = field(default_factory=asyncio.Event)


def run(environ: Mapping[str, str], *, timeout_s: float) -> int:
    """Print what happens; raises CommandFailed when something does not."""
    settings = load(CommandSettings, environ)
    database_url, redis_url, api = settings.need_database_url(), settings.need_redis_url(), settings.need_api_url()
    parts = [
        Part("demo-truck", "truck", "launch.jpg", "photo"),
        Part("demo-warehouse", "warehouse", "stock.csv", "table"),
        Part("demo-office", "office", "visits.jsonl", "table"),
    ]
    asyncio.run(_run(settings, parts, (database_url, redis_url, api), timeout_s))
    return 0


async def _run(settings: CommandSettings, parts: list[Part], addresses: tuple[str, str, str], timeout_s: float) -> None:
    database_url, redis_url, api = addresses
    pool = await open_pool(database_url, name="demo", max_size=2)
    folder = Path(tempfile.mkdtemp(prefix="fleetwire-demo-"))
    try:
        async with asyncio.timeout(timeout_s):
            for part in parts:
                await devices.ensure(pool, part.device_id, part.device_class)
                # Made now, so that the folder is watched by the time the file is moved into it.
                settings.make_request_folder(part.device_id)
            async with listening(redis_url, [part.device_id for part in parts]) as published:
                await _play_all(settings, parts, api, folder)
            stages = [await _finish(pool, part, published) for part in parts]
    except TimeoutError:
        raise CommandFailed(f"not all responses came within {timeout_s:.0f} s{_missing(parts)}") from None
    finally:
        await pool.close()
        shutil.rmtree(folder, ignore_errors=True)
    print()
    print(render(stages))


async def _play_all(settings: CommandSettings, parts: list[Part], api: str, folder: Path) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            for part in parts:
                group.create_task(_play(settings, part, api, folder))
    except* (CommandFailed, DeviceError) as failures:
        raise CommandFailed("; ".join(str(error) for error in failures.exceptions)) from None


async def _play(settings: CommandSettings, part: Part, api: str, folder: Path) -> None:
    """Be the device; drop the file once it is connected; take events until the answer is here and checked."""
    inbox = folder / part.device_id
    inbox.mkdir()

    def on_state(change: Any) -> None:
        if change.state in (State.LIVE, State.REST):
            part.live.set()

    token = device_token(settings, part.device_id, part.device_class)
    async with Client(part.device_id, api=api, token=token, on_state=on_state) as client:
        dropping = asyncio.create_task(_drop_when_live(settings, part))
        try:
            async for event in client:
                if not _answers(event, part):
                    continue  # left over from an earlier run
                part.received_at, part.event = wall(), event
                if event.type != "ResponseReady":
                    raise CommandFailed(f"{part.device_id}: {event.type}, {event.data.get('reason')}")
                part.saved = [await client.download(file, inbox) for file in event.files]
                part.saved_at = wall()
                _check(part)
                await client.finish(event)
                return
        finally:
            dropping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await dropping


async def _drop_when_live(settings: CommandSettings, part: Part) -> None:
    await part.live.wait()
    requests = settings.make_request_folder(part.device_id)
    if requests is None:
        raise CommandFailed("the demonstration needs the cloud folder of a Fleetwire that runs on this machine")
    sample = _FILES / part.sample
    # A name of its own for each run: the same file under the same name would be no change.
    part.request_name = f"{sample.stem}-{token_hex(3)}{sample.suffix}"
    hidden = requests / f".{part.request_name}"
    await asyncio.to_thread(shutil.copyfile, sample, hidden)
    part.dropped_at = wall()
    hidden.rename(requests / part.request_name)
    print(f"{part.device_id:<15} {part.request_name} dropped into {requests}", flush=True)


def _answers(event: Event, part: Part) -> bool:
    request = event.data.get("request")
    return isinstance(request, dict) and bool(part.request_name) and request.get("name") == part.request_name


def _check(part: Part) -> None:
    """The client has compared sizes and hashes; that the files say something sensible is looked at here."""
    names = sorted(path.name for path in part.saved)
    if len(names) < 1:
        raise CommandFailed(f"{part.device_id}: the response holds no file")
    for path in part.saved:
        if path.suffix == ".json":
            json.loads(path.read_bytes())
    print(f"{part.device_id:<15} {len(names)} files saved and checked: {', '.join(names)}", flush=True)


async def _finish(pool: Pool, part: Part, published: Mapping[tuple[str, int], float]) -> Stages:
    """Wait until the ack is in the database, and read when each stage was."""
    assert part.event is not None
    position = part.event.position
    async with asyncio.timeout(_ACK_DEADLINE_S):
        while True:
            state = await devices.get(pool, part.device_id)
            if state is not None and state.epoch == position.epoch and state.acked >= position.seq:
                break
            await asyncio.sleep(0.05)
    return await read_stages(
        pool,
        device_id=part.device_id,
        request_name=part.request_name,
        seq=position.seq,
        dropped_at=part.dropped_at,
        published_at=published.get((part.device_id, position.seq)),
        received_at=part.received_at,
        saved_at=part.saved_at,
        acked_at=state.acked_at.timestamp() if state.acked_at else None,
    )


def _missing(parts: list[Part]) -> str:
    waiting = [
        part.device_id if part.live.is_set() else f"{part.device_id} (no connection)"
        for part in parts
        if part.event is None
    ]
    return f": nothing for {', '.join(waiting)}; `{shown('doctor')}` may know why" if waiting else ""
