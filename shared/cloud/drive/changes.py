"""Google Drive's log of changes as pages of the port.

A run over everything notes the end of the log, lists all files, then reads the log from there; only at its end is what
was not told gone: a list that is made page by page misses what is moved meanwhile, the log does not. What stays must
not be missed either: each page is asked for by the age of the last file, since pages that are counted off shift when
something before them is removed.
A folder that is renamed, moved or taken out of the trash is one entry, its children are not told again. So for each
folder that an entry names, what lies below it is listed; which folders are left stands in the cursor. Too many of them,
and the cursor counts as lost: a run over everything is the same work then.
"""

from typing import Final

import msgspec

from shared.cloud.drive import wire
from shared.cloud.drive.client import PAGE, DriveClient
from shared.cloud.errors import CursorExpired, StoreUnavailable
from shared.cloud.provider import Change, Changed, ChangePage, Removed

__all__ = ["Cursor", "changes_of", "next_page"]

_FOLDERS_AT_ONCE: Final = 20
_WAITING_MAX: Final = 500


class Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to go on: `token` in the log; before that, a page of a list of everything, or of some folders."""

    token: str
    full: bool = False
    listing: bool = False
    since: str | None = None
    page: str | None = None
    below: tuple[str, ...] = ()
    """Folders that are being listed, a few at once."""
    waiting: tuple[str, ...] = ()

    def text(self) -> str:
        """As it stands in a row."""
        return msgspec.json.encode(self).decode()


def parse_cursor(text: str) -> Cursor:
    """Raises CursorExpired for what is none of ours."""
    try:
        return msgspec.json.decode(text, type=Cursor)
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise CursorExpired("the cursor is not one of Google Drive") from None


async def next_page(client: DriveClient, root_id: str, cursor: str | None, *, size: int = PAGE) -> ChangePage:
    """The page after `cursor`. Raises CursorExpired."""
    at = Cursor(await client.start_token(), full=True, listing=True) if cursor is None else parse_cursor(cursor)
    if at.listing:
        return await _listed(client, root_id, at, size, is_first=cursor is None)
    if at.below or at.waiting:
        return await _below(client, root_id, at, size)
    page = await client.changes(at.token, size=size)
    told = [one for entry in page.changes for one in changes_of(entry, root_id)]
    folders = tuple(dict.fromkeys(_folder_of(entry, root_id) for entry in page.changes))
    on = Cursor(
        page.next_page_token or page.new_start_page_token or "",
        # The end of the log is the end of the run, but for the folders that are still to be listed.
        full=at.full,
        waiting=_bounded(tuple(one for one in folders if one)),
    )
    return _page(told, on, ended=page.new_start_page_token is not None)


async def _listed(client: DriveClient, root_id: str, at: Cursor, size: int, *, is_first: bool) -> ChangePage:
    found = await client.files(wire.created_since(at.since), page=at.page, size=size, oldest_first=True)
    told: list[Change] = [Changed(root_id, "root")] if is_first else []
    told += [one for file in found.files for one in _told(file, root_id)]
    ages = [file.created_time or "" for file in found.files]
    if found.next_page_token is None:
        on = msgspec.structs.replace(at, listing=False, since=None, page=None)
    elif ages == sorted(ages) and ages and ages[-1] > (at.since or ""):
        on = msgspec.structs.replace(at, since=ages[-1], page=None)
    else:
        # Told without order, or very many of one moment.
        on = msgspec.structs.replace(at, page=found.next_page_token)
    return _page(told, on, ended=False)


async def _below(client: DriveClient, root_id: str, at: Cursor, size: int) -> ChangePage:
    below = at.below or at.waiting[:_FOLDERS_AT_ONCE]
    waiting = at.waiting if at.below else at.waiting[_FOLDERS_AT_ONCE:]
    found, there = await client.files_in(list(below), page=at.page, size=size)
    told = [one for file in found.files for one in _told(file, root_id)]
    more = tuple(file.id for file in found.files if file.is_folder)
    waiting = _bounded(tuple(dict.fromkeys((*waiting, *more))))
    if found.next_page_token is not None:
        on = msgspec.structs.replace(at, page=found.next_page_token, below=tuple(there), waiting=waiting)
    else:
        on = msgspec.structs.replace(at, page=None, below=(), waiting=waiting)
    # Whether the log ended there is not known any more; asking once more costs little.
    return _page(told, on, ended=False)


def _page(told: list[Change], on: Cursor, *, ended: bool) -> ChangePage:
    """`ended`: the log has no more for now. The cursor after the last page of a run belongs to no run any more."""
    more = not ended or bool(on.waiting or on.below)
    cursor = on if more else msgspec.structs.replace(on, full=False)
    return ChangePage(told, cursor.text(), more=more, full=on.full)


def _bounded(folders: tuple[str, ...]) -> tuple[str, ...]:
    if len(folders) > _WAITING_MAX:
        raise CursorExpired(f"more than {_WAITING_MAX} folders are to be listed again: everything is")
    return folders


def _folder_of(entry: wire.Change, root_id: str) -> str | None:
    file = entry.file
    is_shown = file is not None and file.is_folder and not file.trashed and file.id != root_id
    return file.id if is_shown and file is not None else None


def changes_of(entry: wire.Change, root_id: str) -> list[Change]:
    """What an entry of the log means. Raises StoreUnavailable when it says that the root is gone."""
    if entry.change_type != "file" or entry.file_id is None:
        # Something about the shared drive itself. That access to it was lost does not mean that its files are gone.
        return []
    is_gone = entry.removed or entry.file is None or entry.file.trashed
    if is_gone and entry.file_id == root_id:
        raise StoreUnavailable(
            f"the folder {root_id} is gone, in the trash or not shared any more: restore it; nothing counts as removed"
        )
    if is_gone or entry.file is None:
        return [Removed(entry.file_id)]
    return _told(entry.file, root_id)


def _told(file: wire.File, root_id: str) -> list[Change]:
    if file.id == root_id:
        return [Changed(file.id, "root")]
    if not file.parents:
        # Shared alone, or moved to where this account sees nothing: it lies in no folder that we know.
        return [Removed(file.id)]
    if not (file.is_folder or file.is_file):
        return []
    return [
        Changed(
            file.id,
            "folder" if file.is_folder else "file",
            parent_id=file.parents[0],
            name=file.name,
            size=file.size or 0,
            version=wire.version_of(file),
            hashes=wire.hashes_of(file),
            modified_at=wire.seconds(file.modified_time),
        )
    ]
