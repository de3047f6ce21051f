"""The delta feed of a drive as pages of the port.

A cursor is the address that Graph gave out, with a mark whether the run over everything still goes on: the feed itself
does not say so. A run is over only when the feed was followed to its end once more, from the address that the last page
gave: what was moved while the pages came may stand on none of them, and must not count as gone. Rows come as they are,
the last of an item counts; a folder that was renamed does not tell what is in it, which is why they carry parents and
not paths. The feed covers the whole drive, so a drive that is watched from a folder on tells that folder as the root,
and what is above it as folders that lead nowhere.
"""

from typing import Final
from urllib.parse import urlsplit

from shared.cloud.errors import CursorExpired, Misconfigured, StoreUnavailable
from shared.cloud.graph import wire
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.items import SELECT, Items
from shared.cloud.provider import Change, Changed, ChangePage, Removed

__all__ = ["next_page"]

_FULL: Final = "full "
_REST: Final = "rest "
_ON: Final = "on "
_PAGE: Final = 1000
_LINK_MAX: Final = 8192


async def next_page(client: GraphClient, items: Items, cursor: str | None, *, hint_s: float = 0.0) -> ChangePage:
    """The page after `cursor`. Raises CursorExpired, with the address of a fresh run when Graph gave one."""
    root = await items.root()
    if cursor is None:
        mark, where = _FULL, f"{items.drive}/root/delta?$top={_PAGE}&$select={SELECT}"
    else:
        mark, where = _parsed(cursor, client.store)
    try:
        # A page without a token costs twice as much; so does the first one of a run.
        page = await client.read("delta", where, wire.ItemPage, cost=2 if cursor is None else 1)
    except CursorExpired as error:
        raise CursorExpired(str(error), restart=_restart(client, error.restart)) from None
    except Misconfigured as error:
        if cursor is None or "answered 400" not in str(error):
            raise
        # A token that Graph does not even understand is as good as forgotten.
        raise CursorExpired(str(error)) from None
    link = page.next_link or page.delta_link
    if link is None or len(link) > _LINK_MAX:
        raise StoreUnavailable(f"{client.store}: a page of changes has no address to go on with")
    last = {row.id: row for row in page.value}
    if root.id in last and last[root.id].deleted is not None:
        # Another folder may have its path by now; whoever comes again finds out.
        items.forget_root()
        raise StoreUnavailable(f"{client.store}: its root folder was deleted: restore it; nothing counts as removed")
    told = await _with_hashes(items, page.value)
    on = mark
    if page.next_link is None:
        on = _REST if mark == _FULL else _ON
    return ChangePage(
        [change for item in told for change in _changes_of(item, root.id)],
        f"{on}{link}",
        more=page.next_link is not None or on == _REST,
        full=mark != _ON,
        hint_s=hint_s or None,
    )


def _parsed(cursor: str, store: str) -> tuple[str, str]:
    """The mark and the address."""
    for mark in (_FULL, _REST, _ON):
        if cursor.startswith(mark):
            return mark, cursor.removeprefix(mark)
    raise CursorExpired(f"{store}: the cursor is not one of Graph")


def _restart(client: GraphClient, location: str | None) -> str | None:
    """A cursor for the run over everything that Graph proposes."""
    if location is None or len(location) > _LINK_MAX or not urlsplit(location).path:
        return None
    return f"{_FULL}{location}"


async def _with_hashes(items: Items, rows: list[wire.DriveItem]) -> list[wire.DriveItem]:
    """Files that are told without their hash are asked for it: by another sign they would seem changed once it comes.

    Only the last row of each counts, so only that one is asked for.
    """
    last = {row.id: at for at, row in enumerate(rows)}
    bare = [at for at in last.values() if (row := rows[at]).file is not None and not row.deleted and not row.hashes]
    found = list(rows)
    for at, item in zip(bare, await items.with_hashes([rows[at] for at in bare]), strict=True):
        found[at] = item
    return found


def _changes_of(item: wire.DriveItem, root_id: str) -> list[Change]:
    if item.deleted is not None:
        return [Removed(item.id)]
    parent_id = item.parent_reference.id if item.parent_reference is not None else None
    if item.id == root_id:
        return [Changed(item.id, "root", parent_id=parent_id, name=item.name)]
    if item.file is not None:
        return [
            Changed(
                item.id,
                "file",
                parent_id=parent_id,
                name=item.name,
                size=item.size,
                version=wire.version_of(item),
                hashes=item.hashes,
                stand_in=wire.stand_in_of(item),
                modified_at=wire.at_of(item.last_modified_date_time),
            )
        ]
    if item.folder is not None or item.root is not None:
        # The drive's own root has nothing above it, whatever is said: the way up ends there.
        return [Changed(item.id, "folder", parent_id=None if item.root is not None else parent_id, name=item.name)]
    # A notebook or something else without bytes.
    return []
