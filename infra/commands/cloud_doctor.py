"""`fleetwire doctor --cloud`: whether each store can be used as Fleetwire uses it, one plain verdict per line.

Permissions are tried, not read: a small file goes through everything that watchers, workers and the API do with one,
in a folder that nobody watches, and is removed again. Every step has a deadline, and a store that fails hides no other.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from infra.commands.cloud_stores import CloudCommandSettings, OpenedStores, opened_stores
from infra.commands.doctor import Finding, Verdict, report
from shared import clock
from shared.cloud.errors import CloudError, Misconfigured, NameTaken, RateLimited, StoreFull, StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.provider import Offer, Probe, Provider
from shared.cloud.store import Stored
from shared.settings import load
from shared.store import cloud_uploads, remote_feeds
from shared.store.errors import StoreError

__all__ = ["examine_cloud", "run"]

FOLDER: Final = ".fleetwire-doctor"
_STEP_S: Final = 30.0
_SKEW_NOTE_S: Final = 30.0
_SKEW_BAD_S: Final = 240.0
_FREE_BAD: Final = 1024**3
_QUIET_S: Final = 900.0
_OTHER: Final = b"other content"
_OVERWRITTEN: Final = "a file was overwritten: this store does not honour what Fleetwire asks it to refuse"
_PAGE: Final = "docs/cloud-stores.md"
_SECTIONS: Final = {"local": "local-disk", "s3": "s3", "drive": "google-drive", "sharepoint": "sharepoint-and-onedrive"}


def run(environ: Mapping[str, str]) -> int:
    """Print the findings; 1 when one is bad."""
    return report(asyncio.run(examine_cloud(load(CloudCommandSettings, environ))))


async def examine_cloud(settings: CloudCommandSettings) -> list[Finding]:
    """Of every store that is set up."""
    try:
        async with opened_stores(settings) as opened:
            findings = _database(settings, opened)
            findings += [Finding("bad", str(problem), f"see {_PAGE}") for problem in opened.stores.problems]
            if not opened.stores.names:
                findings.append(Finding("bad", "no store is set up in this environment", f"see {_PAGE}"))
            for provider in opened.stores:
                findings += await _Examination(provider, opened, settings).all()
            return [*findings, *_placement(settings, opened)]
    except CloudError as error:
        return [Finding("bad", str(error), f"see {_PAGE}")]


def _database(settings: CloudCommandSettings, opened: OpenedStores) -> list[Finding]:
    """Said where it matters."""
    if opened.pool is not None or not (settings.database_url or settings.cloud_drive_roots):
        return []
    mend = (
        "without it no name is claimed at Google Drive"
        if settings.cloud_drive_roots
        else "only the stores are looked at"
    )
    return [Finding("note", f"there is no database: {opened.problem}", mend)]


def _placement(settings: CloudCommandSettings, opened: OpenedStores) -> list[Finding]:
    total = sum(weight for _, weight in settings.cloud_placement)
    shares = ", ".join(f"{store} {weight / total:.0%}" for store, weight in settings.cloud_placement)
    missing = [store for store, _ in settings.cloud_placement if opened.stores.get(store) is None]
    if missing:
        return [Finding("note", f"new responses go to {shares}", f"not looked at here: {', '.join(missing)}")]
    return [Finding("good", f"new responses go to {shares}")]


@dataclass(frozen=True, slots=True)
class _Failed:
    """A step did not do what it should."""

    finding: Finding


class _Examination:
    """Of one store."""

    def __init__(self, provider: Provider, opened: OpenedStores, settings: CloudCommandSettings) -> None:
        self._provider = provider
        self._name = provider.name
        self._opened = opened
        self._settings = settings

    async def all(self) -> list[Finding]:
        """Line by line. Without good credentials nothing else is tried."""
        probe = await self._tried("credentials", self._provider.probe)
        if isinstance(probe, _Failed):
            return [probe.finding]
        findings = [self._line("good", f"credentials are good: {probe.who}")]
        findings += self._clock(probe) + self._space(probe)
        findings += await self._permissions()
        return [*findings, *self._calls(), *await self._watched(), *await self._quarantined()]

    def _clock(self, probe: Probe) -> list[Finding]:
        if probe.server_time is None:
            return []
        skew_s = clock.wall() - probe.server_time
        apart_s = abs(skew_s)
        verdict: Verdict = "good" if apart_s <= _SKEW_NOTE_S else "note" if apart_s <= _SKEW_BAD_S else "bad"
        if verdict == "good":
            return [self._line("good", "the clock is right")]
        way = "ahead of" if skew_s > 0 else "behind"
        said = f"this machine's clock is {apart_s:.0f} s {way} the provider's"
        return [self._line(verdict, said, "signatures and tokens are refused when it is far off: set it, by NTP")]

    def _space(self, probe: Probe) -> list[Finding]:
        if probe.total is None or probe.used is None:
            return [self._line("good", "no quota is told")]
        free = probe.total - probe.used
        said = f"{_gib(free)} of {_gib(probe.total)} free"
        if free < _FREE_BAD:
            return [self._line("bad", said, "uploads fail when it is full: make room or raise the quota")]
        if free < probe.total / 20:
            return [self._line("note", said, "make room before it is full")]
        return [self._line("good", said)]

    async def _permissions(self) -> list[Finding]:
        provider = self._provider
        path = f"{FOLDER}/{secrets.token_hex(8)}.txt"
        moved = f"{FOLDER}/moved/{path.rpartition('/')[2]}"
        taken = f"{path}.taken"
        in_parts = f"{path}.parts"
        content = secrets.token_bytes(1000)
        digest = digest_of(content)
        findings = []

        async def write() -> None:
            if not isinstance(await provider.put_new(path, content, expect=digest), Stored):
                raise StoreUnavailable("a name that nobody else knows is said to be there already")

        async def keep() -> None:
            if isinstance(await provider.put_new(path, _OTHER), Stored):
                raise Misconfigured(_OVERWRITTEN)

        async def keep_in_parts() -> None:
            upload = await provider.begin(in_parts, Offer(len(content)))
            try:
                await provider.put_new(in_parts, _OTHER)
                try:
                    await provider.finish(upload, [await provider.put_part(upload, 0, content)])
                except NameTaken:
                    return
                raise Misconfigured(_OVERWRITTEN)
            finally:
                await provider.abort(upload)

        async def keep_from_move() -> None:
            await provider.put_new(taken, _OTHER)
            try:
                await provider.move(path, taken)
            except NameTaken:
                return
            raise Misconfigured(_OVERWRITTEN)

        async def read() -> None:
            if (await provider.content(path))[1] != digest:
                raise StoreUnavailable("it gave other bytes than it took")

        async def listed() -> None:
            if path not in [found.path async for found in _first(provider.list(FOLDER), 10_000)]:
                raise StoreUnavailable("a file that is there is not listed")

        async def told() -> None:
            await provider.changes(None)

        async def move() -> None:
            await provider.move(path, moved)

        kept = "a file from being overwritten"
        steps: list[tuple[str, str, Callable[[], Awaitable[None]]]] = [
            ("may write a file", "may not write a file", write),
            (f"keeps {kept}", f"does not keep {kept}", keep),
            (f"keeps {kept} in parts", f"does not keep {kept} in parts", keep_in_parts),
            ("may read a file", "may not read a file", read),
            ("may list a folder", "may not list a folder", listed),
            ("may ask for changes", "may not ask for changes", told),
        ]
        if provider.capabilities.moves:
            steps += [
                (f"keeps {kept} by a move", f"does not keep {kept} by a move", keep_from_move),
                ("may move a file", "may not move a file", move),
            ]
        try:
            for good, bad, step in steps:
                done = await self._tried(bad, step)
                if isinstance(done, _Failed):
                    findings.append(done.finding)
                    if step is write:
                        return findings
                else:
                    findings.append(self._line("good", good))
        finally:
            findings.append(await self._cleared((path, moved, taken, in_parts)))
        return findings

    async def _cleared(self, paths: tuple[str, ...]) -> Finding:
        async def remove() -> None:
            for path in paths:
                await self._provider.remove(path)
            for folder in (f"{FOLDER}/moved", FOLDER):
                await self._provider.remove_empty(folder)

        done = await self._tried("may not remove a file", remove)
        return done.finding if isinstance(done, _Failed) else self._line("good", "may remove a file")

    def _calls(self) -> list[Finding]:
        if not self._provider.capabilities.push:
            return []
        if self._settings.cloud_hooks_url is None:
            return [
                self._line("note", "is only polled", "with FLEETWIRE_HOOKS_URL set it calls when something changed")
            ]
        return [self._line("good", f"is asked to call {self._settings.cloud_hooks_url}/api/v1/hooks/…")]

    async def _watched(self) -> list[Finding]:
        pool = self._opened.pool
        if pool is None or self._name == "local":
            return []
        try:
            feeds = await remote_feeds.of_store(pool, self._name)
            runs = await remote_feeds.progress(pool, feeds)
        except StoreError as error:
            return [self._line("note", f"whether it is watched cannot be told: {error}")]
        if not runs:
            return [self._line("note", "is not watched", "give the watchers the same environment")]
        oldest = max((one.polled_s for one in runs if one.polled_s is not None), default=None)
        full = sum(one.phase != "changes" for one in runs)
        running = f", {full} in a run over everything" if full else ""
        if oldest is None or oldest > _QUIET_S:
            ago = "never" if oldest is None else f"{oldest:.0f} s ago"
            return [self._line("note", f"was last looked at {ago}{running}", "do the watchers run?")]
        return [self._line("good", f"was looked at {oldest:.0f} s ago{running}")]

    async def _quarantined(self) -> list[Finding]:
        pool = self._opened.pool
        if pool is None:
            return []
        try:
            rows = await cloud_uploads.quarantined(pool, self._name)
        except StoreError as error:
            return [self._line("note", f"whether uploads are in quarantine cannot be told: {error}")]
        if not rows:
            return []
        newest = (
            f"{len(rows)} uploads arrived wrong twice, the last {rows[0].changed_at:%Y-%m-%d %H:%M}: {rows[0].detail}"
        )
        mend = "find out what changes bytes on the way; when that is known, delete the rows of cloud_uploads"
        return [self._line("bad", newest, mend)]

    async def _tried(self, what: str, step: Callable[[], Awaitable[Any]]) -> Any:
        """What the step gives, or why it failed."""
        try:
            async with asyncio.timeout(_STEP_S):
                return await step()
        except TimeoutError:
            return _Failed(self._line("bad", f"{what}: no answer within {_STEP_S:.0f} s", "is the network all right?"))
        except RateLimited as error:
            return _Failed(self._line("note", f"{what}: {error}", f"ask again in {error.retry_after_s:.0f} s"))
        except StoreFull as error:
            return _Failed(self._line("bad", f"{what}: {error}", "make room or raise the quota"))
        except Misconfigured as error:
            return _Failed(self._line("bad", f"{what}: {error}", f"see {self._section()}"))
        except StoreUnavailable as error:
            return _Failed(self._line("bad", f"{what}: {error}", "is the provider down, or the network?"))
        except CloudError as error:
            return _Failed(self._line("bad", f"{what}: {error}", f"see {self._section()}"))

    def _section(self) -> str:
        section = _SECTIONS.get(self._name.partition(":")[0])
        return f"{_PAGE}#{section}" if section else _PAGE

    def _line(self, verdict: Verdict, what: str, mend: str = "") -> Finding:
        return Finding(verdict, f"{self._name}: {what}", mend)


async def _first(found: AsyncIterator[Any], most: int) -> AsyncIterator[Any]:
    count = 0
    async for one in found:
        yield one
        count += 1
        if count >= most:
            return


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
