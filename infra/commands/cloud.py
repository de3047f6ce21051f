"""`fleetwire cloud ls|put|get`: files in any store that the environment sets up.

What is a result goes to stdout, one line or one JSON object; progress and everything else goes to stderr.
"""

import asyncio
import contextlib
import json
import mimetypes
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from infra.commands.cloud_stores import CloudCommandSettings, OpenedStores, opened_stores
from infra.commands.errors import CommandFailed
from shared import clock
from shared.cloud.errors import NameTaken, NotFound
from shared.cloud.hash_kinds import ContentHashes, agree
from shared.cloud.provider import Object, Provider
from shared.cloud.transfer import Progress as Brought
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_journal import SidecarJournal
from shared.cloud.transfer_source import FileContent
from shared.cloud.versioned_put import VersionedPut, put_once
from shared.settings import load

__all__ = ["bar", "get", "ls", "put", "run"]

_OCTETS: Final = "application/octet-stream"
_REMEMBERED: Final = "uploads"

Work = Callable[[OpenedStores, CloudCommandSettings], Awaitable[int]]


def run(environ: Mapping[str, str], work: Work) -> int:
    """Do it with the stores open."""
    settings = load(CloudCommandSettings, environ)

    async def inner() -> int:
        async with opened_stores(settings) as opened:
            return await work(opened, settings)

    return asyncio.run(inner())


def ls(environ: Mapping[str, str], folder: str, *, store: str, as_json: bool) -> int:
    """A line for every file below the folder."""

    async def work(opened: OpenedStores, settings: CloudCommandSettings) -> int:
        files = size = 0
        async for found in opened.need(store).list(folder.strip("/")):
            files += 1
            size += found.size
            print(json.dumps(_shown(store, found)) if as_json else _line(found))
        if not as_json:
            print(f"{files} {'file' if files == 1 else 'files'}, {size} bytes in {store}", file=sys.stderr)
        return 0

    return run(environ, work)


def put(
    environ: Mapping[str, str], file: Path, path: str, *, store: str, content_type: str | None, count_on: bool
) -> int:
    """Upload the file; what became of it as JSON. The same call goes on where one broke off."""

    async def work(opened: OpenedStores, settings: CloudCommandSettings) -> int:
        provider = opened.need(store)
        target = f"{path.rstrip('/')}/{file.name}" if path.endswith("/") else path
        kind = content_type or mimetypes.guess_type(PurePosixPath(target).name)[0] or _OCTETS
        transfer = Transfer()
        journal = SidecarJournal(settings.home.path / _REMEMBERED)
        try:
            content = await FileContent.of(file, transfer.threads)
            with bar(f"{file.name} → {store}", content.size) as advance:
                if count_on:
                    versions = VersionedPut(opened.need_pool(), transfer, journal)
                    placed = await versions.put(provider, target, content, content_type=kind, on_progress=advance)
                    target, existed, digest = placed.path, placed.existed, placed.content
                else:
                    digest = (await transfer.measure(content)).digest()
                    landed = await put_once(
                        transfer,
                        provider,
                        target,
                        content,
                        digest,
                        content_type=kind,
                        journal=journal,
                        on_progress=advance,
                    )
                    existed = landed.existed
        except NameTaken as error:
            raise CommandFailed(f"{error}; nothing was changed. --count-on puts it under the next free name") from None
        finally:
            await transfer.close()
        made = {"store": store, "path": target, "size": digest.size, "sha256": digest.sha256, "existed": existed}
        print(json.dumps(made))
        return 0

    return run(environ, work)


def get(environ: Mapping[str, str], path: str, file: Path | None, *, store: str) -> int:
    """Download; the file appears when it is whole and its hash is the provider's. One that is there is left alone."""

    async def work(opened: OpenedStores, settings: CloudCommandSettings) -> int:
        provider = opened.need(store)
        target = _target(file, path)
        found = await provider.look(path)
        if found is None:
            raise NotFound(f"{path!r}: nothing is there")
        hashes = ContentHashes(provider.capabilities.hashes)
        with _aside(target) as aside, bar(f"{store} → {target.name}", found.size) as advance:
            with aside.open("wb") as stream:
                async for piece in _pieces(provider, found):
                    await asyncio.to_thread(_take, stream.write, hashes, piece)
                    advance(Brought(path, hashes.size, found.size, 0, 0))
                stream.flush()
                await asyncio.to_thread(os.fsync, stream.fileno())
            if hashes.size != found.size or agree(hashes.values(), found.hashes) is False:
                raise CommandFailed(f"{path!r}: what came is not what {store} says that it is; nothing was saved")
            try:
                os.link(aside, target)
            except FileExistsError:
                raise CommandFailed(f"{target} is there; nothing was changed") from None
        digest = hashes.digest()
        print(json.dumps({"store": store, "path": path, "file": str(target), **_of(digest.size, digest.sha256)}))
        return 0

    return run(environ, work)


def _of(size: int, sha256: str) -> dict[str, object]:
    return {"size": size, "sha256": sha256}


def _take(write: Callable[[bytes], object], hashes: ContentHashes, piece: bytes) -> None:
    write(piece)
    hashes.update(piece)


async def _pieces(provider: Provider, found: Object) -> AsyncIterator[bytes]:
    async with provider.open(found.path, object_id=found.object_id) as reader:
        async for piece in reader.chunks():
            yield piece


def _target(file: Path | None, path: str) -> Path:
    """Where to, checked before a byte is fetched."""
    name = PurePosixPath(path).name
    target = Path(name) if file is None else file / name if file.is_dir() else file
    if target.exists() or target.is_symlink():
        raise CommandFailed(f"{target} is there; name another file")
    if not target.parent.is_dir():
        raise CommandFailed(f"{target.parent} is no folder; make it")
    return target


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def bar(what: str, size: int) -> Iterator[Callable[[Brought], None]]:
    """A progress bar on stderr, for people; programs see none."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=size, note="")

        def advance(brought: Brought) -> None:
            again = f"{brought.retries} retried" if brought.retries else ""
            anew = f"{brought.restarts} begun anew" if brought.restarts else ""
            progress.update(task, completed=brought.brought, note=", ".join(filter(None, (again, anew))))

        yield advance


def _shown(store: str, found: Object) -> dict[str, object]:
    return {
        "store": store,
        "path": found.path,
        "size": found.size,
        "version": found.version,
        "object_id": found.object_id,
        "modified": clock.iso(found.modified_at) if found.modified_at else None,
        "hashes": dict(found.hashes),
    }


def _line(found: Object) -> str:
    modified = clock.iso(found.modified_at)[:19] + "Z" if found.modified_at else "-"
    return f"{found.size:>13}  {modified:<20}  {found.path}"
