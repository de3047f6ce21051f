"""`fleetwire cloud watch` and `fleetwire cloud resync`: what a store tells, and having the watchers read all of it.

`watch` asks the store by itself, whatever the watchers do, and keeps nothing. `resync` only leaves a wish in the feeds'
rows: their owners run over everything and announce what they did not know, nothing twice.
"""

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from infra.commands.cloud import run
from infra.commands.cloud_stores import CloudCommandSettings, OpenedStores
from infra.commands.errors import CommandFailed
from shared import clock
from shared.cloud.errors import CursorExpired, RateLimited, StoreUnavailable
from shared.cloud.mirror import Mirror
from shared.cloud.provider import Provider
from shared.store import remote_feeds
from shared.store.remote_feeds import Progress as Run

__all__ = ["resync", "watch"]

_TROUBLE_S: Final = 10.0
_LOOK_S: Final = 0.5


def watch(environ: Mapping[str, str], folder: str, *, store: str, every_s: float, count: int, as_json: bool) -> int:
    """Print what is new, changed or gone below the folder, until interrupted or after `count` of them."""

    async def work(opened: OpenedStores, settings: CloudCommandSettings) -> int:
        provider = opened.need(store)
        mirror = Mirror()
        inside = folder.strip("/")
        await _follow(provider, mirror)
        known = mirror.difference()
        print(f"{len(known.new)} files in {store}; watching", file=sys.stderr, flush=True)
        told = 0
        while True:
            await asyncio.sleep(every_s)
            hint_s = await _follow(provider, mirror)
            difference = mirror.difference()
            sizes = mirror.size_of()
            for what, paths in (("new", difference.new), ("changed", difference.changed), ("gone", difference.gone)):
                for path in paths:
                    if inside and not path.startswith(f"{inside}/"):
                        continue
                    _tell(store, what, path, sizes.get(path), as_json=as_json)
                    told += 1
                    if told == count:
                        return 0
            if hint_s is not None and hint_s > every_s:
                await asyncio.sleep(hint_s - every_s)

    return run(environ, work)


async def _follow(provider: Provider, mirror: Mirror) -> float | None:
    """Until there is no more for now. What can pass is said and waited for; the rest is raised."""
    while True:
        try:
            page = await provider.changes(mirror.cursor)
        except CursorExpired as error:
            print(f"{error}; reading everything again", file=sys.stderr, flush=True)
            mirror.restart(error.restart)
        except StoreUnavailable as error:
            if mirror.cursor is None:
                raise
            wait_s = error.retry_after_s if isinstance(error, RateLimited) else _TROUBLE_S
            print(f"{error}; trying again in {wait_s:.0f} s", file=sys.stderr, flush=True)
            await asyncio.sleep(wait_s)
        else:
            mirror.apply(page)
            if not page.more:
                return page.hint_s


def _tell(store: str, what: str, path: str, size: int | None, *, as_json: bool) -> None:
    at = clock.iso(clock.wall())
    if as_json:
        print(json.dumps({"at": at, "store": store, "what": what, "path": path, "size": size}), flush=True)
    else:
        print(f"{at}  {what:<7}  {path}" + (f"  {size} bytes" if size is not None else ""), flush=True)


def resync(environ: Mapping[str, str], *, store: str, wait: bool, timeout_s: float) -> int:
    """Want a run over everything, and show how far it is until it is over; 1 when it is not within the time."""

    async def work(opened: OpenedStores, settings: CloudCommandSettings) -> int:
        if store == "local":
            raise CommandFailed(
                "the local folder needs none: its watchers compare all of it at start and every "
                "FLEETWIRE_WATCHER_RESCAN_S"
            )
        opened.need(store)
        pool = opened.need_pool()
        feeds = await remote_feeds.of_store(pool, store)
        if not feeds:
            raise CommandFailed(f"no watcher has begun with {store} yet; is it set up in its environment?")
        before = {one.feed_id: one.generation for one in await remote_feeds.progress(pool, feeds)}
        asked = await remote_feeds.ask_full(pool, feeds)
        if not wait:
            print(json.dumps({"store": store, "feeds": len(asked)}))
            return 0
        began = clock.monotonic()
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        console = Console(stderr=True)
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task(f"{store}: waiting for its watcher", total=None)
            while True:
                runs = await remote_feeds.progress(pool, feeds)
                over = [one for one in runs if one.generation > before.get(one.feed_id, 0) and one.phase == "changes"]
                bar.update(task, description=_described(store, runs, len(over)))
                if len(over) == len(feeds) or clock.monotonic() - began > timeout_s:
                    break
                await asyncio.sleep(_LOOK_S)
        summary = {
            "store": store,
            "feeds": len(feeds),
            "over": len(over),
            "pages": sum(one.pages for one in over),
            "items": sum(one.items for one in over),
            "seconds": round(clock.monotonic() - began, 1),
        }
        print(json.dumps(summary))
        if len(over) < len(feeds):
            print(f"fleetwire: not over within {timeout_s:g} s; it goes on", file=sys.stderr)
            return 1
        return 0

    return run(environ, work)


def _described(store: str, runs: Sequence[Run], over: int) -> str:
    pages, items = sum(one.pages for one in runs), sum(one.items for one in runs)
    return f"{store}: {over} of {len(runs)} feeds done, {pages} pages, {items} items"
