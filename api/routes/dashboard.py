"""The operators' page: its files, signing in and out, and the live stream.

Signing in trades a token with the scope operator for a cookie that scripts cannot read; the token itself is nowhere
kept. Everything else that the page does are the paths that any operator's client uses.
"""

import math
from collections.abc import Sequence
from secrets import token_urlsafe
from typing import Final

from starlette.responses import Response

from api.answers import json_answer, typed_answer
from api.auth import authenticate, refused, require
from api.dashboard.login_gate import LoginGate
from api.dashboard.page import CONTENT_POLICY, read_shell
from api.dashboard.sessions import Session
from api.dashboard.settings import DashboardSettings
from api.dashboard.stream import LiveStream
from api.dashboard.viewers import Viewers
from api.descriptions.dashboard import BEGIN, END, LIVE, LOOK, PIECE, SignedIn, SignIn
from api.descriptions.health import INDEX
from api.inputs import device_id_of
from api.preconditions import is_known
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.revocation_check import RevocationCheck
from api.session_check import SessionCheck, check_own_site
from shared.clock import monotonic, wall
from shared.tokens import Claims, KeyRing, Scope

__all__ = ["Dashboard"]

OPERATOR: Final[frozenset[Scope]] = frozenset({"operator"})
DEVICES_MAX: Final = 100
RETRY_MS: Final = 2000
_ASK_AGAIN: Final = "private, no-cache"
_FOR_GOOD: Final = "public, max-age=31536000, immutable"


class Dashboard:
    """`GET /` for browsers, its files, `/api/v1/dashboard/session`, `/api/v1/dashboard/live`"""

    def __init__(
        self,
        keys: KeyRing,
        check: SessionCheck,
        revocations: RevocationCheck,
        viewers: Viewers,
        settings: DashboardSettings,
    ) -> None:
        self._keys = keys
        self._check = check
        self._revocations = revocations
        self._viewers = viewers
        self._settings = settings
        self._shell = read_shell()
        self._gate = LoginGate(monotonic())

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table."""
        begin = Operation(self.begin, body=SignIn, body_max_bytes=16 * 1024, description=BEGIN)
        look = Operation(self.look, description=LOOK)
        end = Operation(self.end, OPERATOR, description=END, cost=0)
        live = Operation(self.live, OPERATOR, description=LIVE)
        return [
            Resource(guard, "/", {"GET": Operation(self.index, description=INDEX)}),
            Resource(guard, "/dashboard/{digest}/{name}", {"GET": Operation(self.piece, description=PIECE)}),
            Resource(guard, "/api/v1/dashboard/session", {"GET": look, "POST": begin, "DELETE": end}),
            Resource(guard, "/api/v1/dashboard/live", {"GET": live}),
        ]

    async def index(self, call: Call) -> Response:
        """The page for browsers, where to look for everybody else."""
        if not any(b"text/html" in value for value in call.headers.get(b"accept", [])):
            paths = ["/health", "/ready", "/docs", "/api/v1/"]
            return json_answer({"service": "fleetwire api", "paths": paths}, headers={"Vary": "Accept"})
        etag = f'"{self._shell.digest}"'
        headers = {
            "ETag": etag,
            "Cache-Control": _ASK_AGAIN,
            "Content-Security-Policy": CONTENT_POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Vary": "Accept",
        }
        if is_known(call.headers, etag):
            return Response(None, 304, headers)
        return Response(self._shell.html.content, headers=headers, media_type=self._shell.html.media_type)

    async def piece(self, call: Call) -> Response:
        """A file of the page."""
        piece = self._shell.files.get(call.path["name"])
        if piece is None or call.path["digest"] != self._shell.digest:
            raise Problem("not-found", "there is no such file of the page")
        headers = {"ETag": f'"{self._shell.digest}"', "Cache-Control": _FOR_GOOD}
        if is_known(call.headers, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(piece.content, headers=headers, media_type=piece.media_type)

    async def begin(self, call: Call) -> Response:
        """A session for whoever shows a good token. What was shown is in no log and no answer."""
        check_own_site(call.headers)
        body: SignIn = call.body
        now = wall()
        wait_s = self._gate.wait_s(call.trace.address, monotonic())
        if wait_s:
            after = max(1, math.ceil(wait_s))
            detail = f"too many tries to sign in; again in {after} s"
            raise Problem("too-many-requests", detail, headers={"Retry-After": str(after)})
        try:
            claims = authenticate(self._keys, body.token.strip(), now=now)
            require(claims, OPERATOR)
            await self._check_revocation(claims)
        except Problem:
            self._gate.failed(call.trace.address, monotonic())
            raise
        call.trace.subject = claims.subject
        session = self._check.sessions.begin(claims, token_urlsafe(16), now)
        return self._signed_in(session, now, give=True)

    async def look(self, call: Call) -> Response:
        """Who is signed in, if anybody; a session that is used is prolonged."""
        now = wall()
        try:
            session = self._check.session(call.headers, now)
            check_own_site(call.headers)
            await self._check_revocation(session.claims)
        except Problem:
            return json_answer({"subject": None})
        longer = self._check.sessions.prolonged(session, now)
        return self._signed_in(longer or session, now, give=longer is not None)

    async def end(self, call: Call) -> Response:
        """The browser forgets the session."""
        del call
        return Response(None, 204, {"Set-Cookie": self._check.drop_cookie()})

    async def live(self, call: Call) -> Response:
        """The stream. What it begins with is whole, then come changes."""
        named = call.query.text("devices")
        device_ids = [device_id_of(text) for text in named.split(",")] if named else []
        if len(device_ids) > DEVICES_MAX:
            raise Problem("invalid-parameter", f"devices: name at most {DEVICES_MAX}", field="devices")
        if self._viewers.is_full:
            raise Problem("too-many-waiting", "too many live pages are open at this instance")
        call.trace.waited = True
        return LiveStream(
            self._viewers,
            device_ids,
            lasts_s=min(self._settings.dashboard_stream_s, max(1.0, call.claims.expires_at - wall())),
            retry_ms=RETRY_MS,
            still_allowed=call.still_allowed,
        )

    async def _check_revocation(self, claims: Claims) -> None:
        if await self._revocations.is_revoked(claims):
            raise refused("revoked", "the token was revoked")

    def _signed_in(self, session: Session, now: float, *, give: bool) -> Response:
        answer = typed_answer(
            SignedIn(session.subject, self._check.sessions.csrf(session), int(session.expires_at - now))
        )
        if give:
            answer.headers["Set-Cookie"] = self._check.set_cookie(session, now)
        return answer
