"""What an emulated Google Drive holds: files, folders, shared drives, and the log of changes to them.

Names may repeat in a folder; a folder that is renamed, moved or put into the trash is one change, its children are not
told again; an id that was used once is used up. The log says what a file is like now, not what it was like then.
"""

import base64
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from loadtests.emulators.blobs import Blob
from loadtests.emulators.clock import EmulatedClock

__all__ = ["FOLDER", "Corpus", "DriveError", "File"]

FOLDER: Final = "application/vnd.google-apps.folder"


class DriveError(Exception):
    """An answer that refuses. `location` is the parameter that was wrong."""

    def __init__(self, status: int, reason: str, message: str, *, location: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.location = location


@dataclass
class File:
    """One file or folder."""

    id: str
    name: str
    mime: str
    parent: str | None
    drive_id: str | None
    created: float
    modified: float
    blob: Blob | None = None
    revision: str | None = None
    trashed_itself: bool = False
    version: int = 1
    app_properties: dict[str, str] = field(default_factory=dict)
    searchable_from: float = 0.0


@dataclass
class _Entry:
    file_id: str
    at: float
    removed: bool
    drive_id: str | None


class Corpus:
    """One account's files and the shared drives it is a member of. `root` is its own folder at the top."""

    def __init__(self, clock: EmulatedClock, *, search_lag_s: float = 0.0, repeat_entries: bool = True) -> None:
        """`search_lag_s`: how long a new file is missing in lists. `repeat_entries`: a file may be in the log twice."""
        self.clock = clock
        self.search_lag_s = search_lag_s
        self.files: dict[str, File] = {}
        self.log: list[_Entry] = []
        self.root = self._new_id()
        self.drives: dict[str, str] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._used: set[str] = set()
        self._premade: set[str] = set()
        self._generation = 1
        self._newest: dict[str, int] = {}
        self._created_last = 0.0
        self._repeat_entries = repeat_entries
        self._put(File(self.root, "My Drive", FOLDER, None, None, clock.now(), clock.now()))

    # Ids and tokens

    def _new_id(self) -> str:
        return "1" + base64.urlsafe_b64encode(secrets.token_bytes(24)).decode()

    def generate_ids(self, count: int) -> list[str]:
        """Ids for files to come."""
        made = [self._new_id() for _ in range(count)]
        self._premade.update(made)
        return made

    def check_new_id(self, file_id: str) -> None:
        """Whether a file may be made under an id that the client brings."""
        if file_id in self._used:
            raise DriveError(409, "fileIdInUse", "A file already exists with the provided ID.")
        if file_id not in self._premade:
            raise DriveError(400, "invalid", "The provided file ID is not usable.", location="file.id")

    def token(self, position: int, drive_id: str | None, page: int = 0) -> str:
        """A page token: opaque, for one corpus, until `expire_tokens`."""
        text = f"{self._generation}|{drive_id or ''}|{position}|{page}"
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def position(self, token: str, drive_id: str | None) -> tuple[int, int]:
        """Where a token leads. Refuses those that died or belong elsewhere."""
        try:
            text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
            generation, corpus, position, page = text.split("|")
            if int(generation) == self._generation and corpus == (drive_id or ""):
                return int(position), int(page)
        except ValueError:
            pass
        raise DriveError(400, "invalid", "Invalid Value", location="pageToken")

    def expire_tokens(self) -> None:
        """Every token that was given out is worthless now."""
        self._generation += 1

    def start_position(self) -> int:
        """The end of the log."""
        return len(self.log)

    # Looking

    def file(self, file_id: str) -> File:
        """The file, in the trash or not."""
        found = self.files.get(self.root if file_id == "root" else file_id)
        if found is None:
            raise DriveError(404, "notFound", f"File not found: {file_id}.", location="fileId")
        return found

    def trashed(self, file: File) -> bool:
        """It or a folder above it was put into the trash."""
        at: File | None = file
        while at is not None:
            if at.trashed_itself:
                return True
            at = self.files.get(at.parent) if at.parent else None
        return False

    def children(self, folder_id: str) -> list[File]:
        """What lies in a folder, the trashed included."""
        return [self.files[one] for one in self._children.get(folder_id, {})]

    def candidates(self, parents: set[str] | None, drive_id: str | None, *, all_drives: bool) -> list[File]:
        """The files a list is made from; `parents` when the query names them."""
        if parents is not None:
            found: Iterator[File] = (one for parent in sorted(parents) for one in self.children(parent))
        else:
            found = iter(list(self.files.values()))
        now = self.clock.now()
        return [
            one
            for one in found
            if one.id != self.root
            and one.id not in self.drives
            and (one.drive_id == drive_id if drive_id else all_drives or one.drive_id is None)
            and one.searchable_from <= now
        ]

    def entries(self, position: int, limit: int, drive_id: str | None, *, everywhere: bool) -> tuple[list[_Entry], int]:
        """Entries of one corpus after `position`, at most `limit`, and where to go on."""
        found: list[_Entry] = []
        while position < len(self.log) and len(found) < limit:
            entry = self.log[position]
            position += 1
            mine = entry.drive_id == drive_id if drive_id else everywhere or entry.drive_id is None
            if not mine or (not self._repeat_entries and self._newest.get(entry.file_id) != position - 1):
                continue
            found.append(entry)
        return found, position

    # Changing

    def make_drive(self, name: str) -> str:
        """A shared drive; its id is also that of its folder at the top."""
        drive_id = "0A" + secrets.token_urlsafe(12)
        self.drives[drive_id] = name
        self._put(File(drive_id, name, FOLDER, None, drive_id, self.clock.now(), self.clock.now()))
        return drive_id

    def make(
        self,
        name: str,
        mime: str,
        parent: str | None,
        *,
        file_id: str | None = None,
        blob: Blob | None = None,
        app_properties: dict[str, str] | None = None,
    ) -> File:
        """A new file or folder, whatever else has that name."""
        above = self.file(parent or "root")
        if above.mime != FOLDER:
            raise DriveError(403, "parentNotAFolder", "The specified parent is not a folder.")
        if file_id is not None:
            self.check_new_id(file_id)
        now = self._created_last = max(self.clock.now(), self._created_last + 0.001)
        made = File(
            file_id or self._new_id(),
            name,
            mime,
            above.id,
            above.drive_id,
            now,
            now,
            blob=blob,
            revision=self._revision() if blob is not None else None,
            app_properties=dict(app_properties or {}),
            searchable_from=self.clock.now() + self.search_lag_s,
        )
        self._put(made)
        self._note(made)
        return made

    def write(self, file: File, blob: Blob) -> None:
        """New content."""
        file.blob, file.revision = blob, self._revision()
        file.modified = self.clock.now()
        self._note(file)

    def update(self, file: File, changes: dict[str, Any], *, add: str | None = None, remove: str | None = None) -> None:
        """New name, folder, or way into or out of the trash."""
        if add is not None:
            above = self.file(add)
            if above.mime != FOLDER:
                raise DriveError(403, "parentNotAFolder", "The specified parent is not a folder.")
            at: File | None = above
            while at is not None:
                if at is file:
                    raise DriveError(403, "cyclicMembership", "A folder cannot be moved into itself.")
                at = self.files.get(at.parent) if at.parent else None
            if remove is None and file.parent not in (None, above.id):
                raise DriveError(
                    403, "cannotAddParent", "Increasing the number of parents is not allowed", location="addParents"
                )
            if file.parent is not None:
                self._children[file.parent].pop(file.id, None)
            file.parent, file.drive_id = above.id, above.drive_id
            self._children.setdefault(above.id, {})[file.id] = None
        if "name" in changes:
            file.name = str(changes["name"])
        if "trashed" in changes:
            file.trashed_itself = bool(changes["trashed"])
        if "appProperties" in changes:
            file.app_properties |= changes["appProperties"]
        self._note(file)

    def delete(self, file: File) -> None:
        """For good, with all below it."""
        for child in self.children(file.id):
            self.delete(child)
        self.files.pop(file.id, None)
        if file.parent is not None:
            self._children.get(file.parent, {}).pop(file.id, None)
        self._note(file, removed=True)

    def _put(self, file: File) -> None:
        self.files[file.id] = file
        self._used.add(file.id)
        if file.parent is not None:
            self._children.setdefault(file.parent, {})[file.id] = None

    def _note(self, file: File, *, removed: bool = False) -> None:
        file.version += 1
        self._newest[file.id] = len(self.log)
        self.log.append(_Entry(file.id, self.clock.now(), removed, file.drive_id))

    def _revision(self) -> str:
        return "0B" + base64.urlsafe_b64encode(secrets.token_bytes(30)).decode()
