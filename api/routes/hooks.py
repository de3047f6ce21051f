"""Where cloud providers call when something changed: `POST /api/v1/hooks/{graph,drive,s3}`.

A call is believed by the secret that was given to the provider with the subscription, and does nothing but wake a feed;
the feed then asks the provider what happened. It is answered when the hint is durable, within 3 s in any case: a
provider that is not answered calls again for hours, one that is answered late is slowed down for all.
"""

import asyncio
import re
from dataclasses import dataclass, field
from typing import Final

from starlette.responses import Response

from api.bodies import convert_body, decode_body
from api.descriptions.hooks import DRIVE_HOOK, GRAPH_HOOK, S3_HOOK
from api.hook_calls import DriveCall, GraphCall, GraphNotification, S3Call, is_signed, partitions_of, same_secret
from api.hook_desk import HookDesk
from api.inputs import Headers
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.clock import wall
from shared.store.feed_hints import Hint
from shared.telemetry.metrics import HOOKS

__all__ = ["Hooks", "S3Hook"]

BODY_MAX_BYTES: Final = 1024 * 1024
DEADLINE_S: Final = 2.5
_TOKEN_MAX_CHARS: Final = 4096
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_HEADER_MAX_CHARS: Final = 512
_DRIVE_HEADERS: Final = (
    "X-Goog-Channel-ID",
    "X-Goog-Channel-Token",
    "X-Goog-Message-Number",
    "X-Goog-Resource-State",
)
_IN_TROUBLE: Final = ("reauthorizationRequired", "subscriptionRemoved")


@dataclass(frozen=True, slots=True)
class S3Hook:
    """How calls about the bucket are believed. Without a secret none is."""

    secret: str | None = field(repr=False)
    bucket: str | None = None
    prefix: str = ""

    def believes(self, headers: Headers, body: bytes) -> bool:
        """Whether the call has the secret, or a signature made with it."""
        if self.secret is None:
            return False
        signature = _header(headers, "Fleetwire-Hook-Signature")
        if signature:
            return is_signed(self.secret, body, signature, now=wall())
        return same_secret(self.secret, _header(headers, "Fleetwire-Hook-Secret"))


class Hooks:
    """The three of them."""

    def __init__(self, desk: HookDesk, s3: S3Hook) -> None:
        self._desk = desk
        self._s3 = s3

    def resources(self, guard: Guard) -> list[Resource]:
        """For the route table."""
        graph = Operation(
            self.graph,
            body=bytes,
            decode=False,
            any_content=True,
            body_max_bytes=BODY_MAX_BYTES,
            body_deadline_s=DEADLINE_S,
            deadline_s=DEADLINE_S,
            description=GRAPH_HOOK,
        )
        drive = Operation(self.drive, deadline_s=DEADLINE_S, description=DRIVE_HOOK)
        s3 = Operation(
            self.s3,
            body=bytes,
            decode=False,
            body_max_bytes=BODY_MAX_BYTES,
            body_deadline_s=DEADLINE_S,
            deadline_s=DEADLINE_S,
            description=S3_HOOK,
        )
        return [
            Resource(guard, "/api/v1/hooks/graph", {"POST": graph}),
            Resource(guard, "/api/v1/hooks/drive", {"POST": drive}),
            Resource(guard, "/api/v1/hooks/s3", {"POST": s3}),
        ]

    async def graph(self, call: Call) -> Response:
        """Answer the handshake of a new subscription, or wake the feeds of those that say that they changed."""
        told = convert_body(decode_body(call.body), GraphCall) if call.body else GraphCall([])
        token = call.query.text("validationToken")
        if token is not None:
            return _handshake(token)
        # One answer is for all of them: what is believed counts, and nobody is told which was not.
        woken = await asyncio.gather(*(self._wake_for_graph(one) for one in told.value))
        if told.value and not any(woken):
            raise _refused()
        return Response(status_code=202)

    async def drive(self, call: Call) -> Response:
        """Wake the feed whose channel this is."""
        told = _drive_call(call.headers)
        feed_id = await self._desk.feed_of(told.token)
        if feed_id is None:
            HOOKS.labels("drive", "refused").inc()
            raise _refused()
        if told.is_handshake:
            HOOKS.labels("drive", "handshake").inc()
        else:
            await self._wake("drive", Hint(feed_id, told.channel_id, told.number))
        return Response(status_code=202)

    async def s3(self, call: Call) -> Response:
        """Wake the feeds that the devices of these objects belong to."""
        if not self._s3.believes(call.headers, call.body):
            HOOKS.labels("s3", "refused").inc()
            raise _refused()
        told: S3Call = convert_body(decode_body(call.body), S3Call)
        partitions = partitions_of(told, bucket=self._s3.bucket, prefix=self._s3.prefix)
        feed_ids = await self._desk.of_partitions("s3", partitions) if partitions else []
        if not feed_ids:
            HOOKS.labels("s3", "ignored").inc()
        await asyncio.gather(*(self._wake("s3", Hint(feed_id)) for feed_id in feed_ids))
        return Response(status_code=202)

    async def _wake_for_graph(self, told: GraphNotification) -> bool:
        feed_id = await self._desk.feed_of(told.clientState)
        if feed_id is None:
            HOOKS.labels("graph", "refused").inc()
            return False
        await self._wake("graph", Hint(feed_id, doubted=told.lifecycleEvent in _IN_TROUBLE))
        return True

    async def _wake(self, provider: str, hint: Hint) -> None:
        is_news = await self._desk.wake(hint)
        HOOKS.labels(provider, "woken" if is_news else "repeated").inc()


def _handshake(token: str) -> Response:
    """The token as it came, as Graph wants it. Nothing else of the call is looked at: nobody gains by it."""
    if len(token) > _TOKEN_MAX_CHARS or _CONTROL.search(token):
        detail = f"validationToken must be at most {_TOKEN_MAX_CHARS} characters, none of them a control character"
        raise Problem("invalid-parameter", detail, field="validationToken")
    HOOKS.labels("graph", "handshake").inc()
    return Response(token, headers={"Content-Type": "text/plain"})


def _drive_call(headers: Headers) -> DriveCall:
    for name in _DRIVE_HEADERS:
        if not _header(headers, name):
            raise Problem("invalid-request", f"{name} is missing", field=name)
    number = _header(headers, "X-Goog-Message-Number")
    if not (number.isascii() and number.isdigit() and len(number) <= 18):
        raise Problem("invalid-request", "X-Goog-Message-Number must be a number", field="X-Goog-Message-Number")
    return DriveCall(
        channel_id=_header(headers, "X-Goog-Channel-ID"),
        token=_header(headers, "X-Goog-Channel-Token"),
        number=int(number),
        state=_header(headers, "X-Goog-Resource-State"),
    )


def _header(headers: Headers, name: str) -> str:
    """The one value of a header, or nothing."""
    values = headers.get(name.lower().encode(), [])
    if not values:
        return ""
    text = values[0].decode("latin-1")
    if len(values) > 1 or len(text) > _HEADER_MAX_CHARS or not (text.isascii() and text.isprintable()):
        detail = f"{name} must be given once, with at most {_HEADER_MAX_CHARS} printable ASCII characters"
        raise Problem("invalid-request", detail, field=name)
    return text


def _refused() -> Problem:
    # The same for a subscription that nobody has and for a wrong secret: there is nothing to be found out here.
    return Problem("hook-refused", "no subscription with this secret is known")
