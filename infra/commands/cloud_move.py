"""`fleetwire cloud mv`: a file to another place, in its store or in another; the same call finishes what broke off."""

import json
import mimetypes
from collections.abc import Mapping
from pathlib import PurePosixPath

from infra.commands.cloud import bar, run
from infra.commands.cloud_stores import CloudCommandSettings, OpenedStores
from infra.commands.errors import CommandFailed
from shared.cloud.errors import NameTaken
from shared.cloud.moving import Mover
from shared.cloud.transfer import Transfer
from shared.cloud.upload_rows import RowJournal

__all__ = ["move"]


def move(environ: Mapping[str, str], path: str, to: str, *, store: str, to_store: str | None) -> int:
    """Move; what became of it as JSON."""

    async def work(opened: OpenedStores, settings: CloudCommandSettings) -> int:
        source, target = opened.need(store), opened.need(to_store or store)
        pool = opened.need_pool()
        name = PurePosixPath(path).name
        landing = f"{to.rstrip('/')}/{name}" if to.endswith("/") else to
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        found = await source.look(path)
        transfer = Transfer()
        try:
            with bar(f"{name} → {target.name}", found.size if found is not None else 0) as advance:
                mover = Mover(pool, transfer, RowJournal(pool))
                moved = await mover.move(source, path, target, landing, content_type=kind, on_progress=advance)
        except NameTaken as error:
            raise CommandFailed(f"{error}; the file stays where it was") from None
        finally:
            await transfer.close()
        print(json.dumps({"store": target.name, "path": moved.path, "size": moved.size, "sha256": moved.sha256}))
        return 0

    return run(environ, work)
