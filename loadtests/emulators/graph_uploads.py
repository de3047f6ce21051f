"""Upload sessions of an emulated Graph: fragments in order, in multiples of 320 KiB, and a name that may be taken late.

The address of a session is a permission by itself: a request that shows a token there is refused, as it is at Graph.
"""

import re
import secrets
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request

from loadtests.emulators.blobs import BlobFolder, Growing
from loadtests.emulators.clock import EmulatedClock
from loadtests.emulators.graph_drive import Drive, GraphFault, Item

__all__ = ["FRAGMENT", "Session", "Uploads"]

FRAGMENT: Final = 327_680
_FRAGMENT_MAX: Final = 60 * 1024 * 1024
_LIFETIME_S: Final = 14 * 86_400.0
_RANGE: Final = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)
_SESSIONS_MAX: Final = 10_000


@dataclass
class Session:
    """Content that is on its way to a name."""

    key: str
    drive: Drive
    parent: Item
    name: str
    behavior: str
    size: int | None
    deferred: bool
    growing: Growing
    expires_at: float

    def missing(self) -> list[str]:
        """What it wants next, as Graph writes it."""
        if self.size is not None and self.growing.size >= self.size:
            return []
        return [f"{self.growing.size}-" + (f"{self.size - 1}" if self.size is not None else "")]


class Uploads:
    """All sessions. `heeds_defer` off: a session that should wait with its name takes it at the last fragment."""

    def __init__(self, clock: EmulatedClock) -> None:
        self._clock = clock
        self.open: dict[str, Session] = {}
        self.heeds_defer = True
        self.spoils = 0
        """So many of the next contents get a wrong byte."""

    def begin(self, drive: Drive, parent: Item, name: str, body: dict[str, Any], blobs: BlobFolder) -> Session:
        """A new session. 409 when the name is taken and that is told early."""
        asked = body.get("item") or {}
        behavior = str(asked.get("@microsoft.graph.conflictBehavior", "fail"))
        if asked.get("name", name) != name:
            raise GraphFault(400, "invalidRequest", "The name of the item is not the one in the address.")
        size = asked.get("fileSize")
        if size is not None and drive.manners.business:
            raise GraphFault(400, "invalidRequest", "The property 'fileSize' is only known to OneDrive Personal.")
        if size is not None and drive.used + size > drive.manners.quota:
            raise GraphFault(507, "quotaLimitReached", "The user has reached their quota limit.")
        if drive.manners.early_conflict:
            drive.check(parent, name, behavior)
        if len(self.open) >= _SESSIONS_MAX:
            raise GraphFault(503, "serviceNotAvailable", "Too many sessions.", {"Retry-After": "5"})
        made = Session(
            secrets.token_urlsafe(24),
            drive,
            parent,
            name,
            behavior,
            size,
            bool(body.get("deferCommit")) and self.heeds_defer,
            blobs.begin(),
            self._clock.now() + _LIFETIME_S,
        )
        self.open[made.key] = made
        return made

    def find(self, key: str) -> Session:
        """404 when it is over."""
        found = self.open.get(key)
        if found is not None and found.expires_at <= self._clock.now():
            self.end(found)
            found = None
        if found is None:
            raise GraphFault(404, "itemNotFound", "The upload session was not found")
        return found

    def end(self, session: Session) -> None:
        """Give it up."""
        if self.open.pop(session.key, None) is not None:
            session.growing.discard()

    def close(self) -> None:
        """Give all of them up."""
        for session in list(self.open.values()):
            self.end(session)

    async def take(self, session: Session, request: Request) -> bool:
        """A fragment; True when the content is complete. What comes before the connection breaks is not kept."""
        given = _RANGE.fullmatch(request.headers.get("content-range", ""))
        if given is None:
            raise GraphFault(400, "invalidRequest", "The Content-Range header is missing or malformed.")
        start, last, total = (int(number) for number in given.groups())
        if session.size is None:
            session.size = total
        length = last + 1 - start
        if total != session.size or length < 1 or last >= total:
            raise GraphFault(400, "invalidRequest", "The Content-Range header is not that of this session.")
        if start != session.growing.size:
            raise GraphFault(416, "invalidRange", "The range is received already, or not the one that is next.")
        if length > _FRAGMENT_MAX:
            raise GraphFault(413, "requestEntityTooLarge", "A fragment has at most 60 MiB.")
        if last + 1 < total and length % FRAGMENT:
            raise GraphFault(400, "invalidRequest", "The length of a fragment is no multiple of 320 KiB.")
        came = bytearray()
        try:
            async for piece in request.stream():
                came += piece
                if len(came) > length:
                    raise GraphFault(400, "invalidRequest", "More bytes came than the range has.")
        except ClientDisconnect:
            came.clear()
            raise
        if len(came) != length:
            raise GraphFault(400, "invalidRequest", "Fewer bytes came than the range has.")
        if start != session.growing.size:
            raise GraphFault(416, "invalidRange", "Another request brought this range meanwhile.")
        if self.spoils and last + 1 == total:
            self.spoils -= 1
            came[0] ^= 1
        session.growing.write(bytes(came))
        return session.growing.size >= total

    def commit(self, session: Session, *, name: str | None = None, behavior: str | None = None) -> tuple[Item, bool]:
        """Give the content its name; taken: 409, and the session stays."""
        if session.size is None or session.growing.size < session.size:
            raise GraphFault(400, "invalidRequest", "The content is not complete.")
        name, behavior = name or session.name, behavior or session.behavior
        session.drive.check(session.parent, name, behavior)
        del self.open[session.key]
        return session.drive.put(session.parent, name, session.growing.seal(), behavior)
