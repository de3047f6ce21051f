"""What cloud providers say when they call [pure]: which subscription, by which secret, and about what.

Every provider only says that something changed; what, the feed finds out. So a call is taken apart no further than to
know whom it may wake, and everything else in it is left unread. Nothing here is true before its secret was checked.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import unquote_plus

from msgspec import Meta, Struct, field

from shared.hash_slots import partition_of
from shared.protocol.ids import device_id_problem

__all__ = [
    "DriveCall",
    "GraphCall",
    "GraphNotification",
    "S3Call",
    "is_signed",
    "partitions_of",
    "same_secret",
    "signature_of",
]

SIGNED_FOR_S: Final = 300
_AREAS: Final = ("Requests", "Responses")
_SIGNATURE: Final = re.compile(r"t=([0-9]{1,12}),v1=([0-9a-f]{64})", re.ASCII)
_NO_SECRET: Final = "no subscription has this secret: it is only there to be compared with"  # noqa: S105


class GraphNotification(Struct, frozen=True):
    """One subscription says that its drive changed, or with `lifecycleEvent` that it needs care itself."""

    clientState: str | None = None  # noqa: N815 - the names are Graph's
    lifecycleEvent: str | None = None  # noqa: N815


class GraphCall(Struct, frozen=True):
    """What Graph posts: notifications of one or several subscriptions."""

    value: Annotated[list[GraphNotification], Meta(max_length=1000)]


@dataclass(frozen=True, slots=True)
class DriveCall:
    """What Drive says in the headers of a call: it has no body."""

    channel_id: str
    token: str
    number: int
    state: str

    @property
    def is_handshake(self) -> bool:
        """The channel was opened, and nothing changed yet."""
        return self.state == "sync"


class S3Bucket(Struct, frozen=True):
    """Which bucket."""

    name: str


class S3Object(Struct, frozen=True):
    """Which object in it."""

    key: str


class S3Place(Struct, frozen=True):
    """An object and its bucket."""

    bucket: S3Bucket
    object: S3Object


class S3Record(Struct, frozen=True):
    """One event of a bucket's notification."""

    s3: S3Place


class S3Call(Struct, frozen=True):
    """What S3 says of objects: the records of a bucket's notification, or one event of EventBridge."""

    records: Annotated[list[S3Record], Meta(max_length=10_000)] = field(name="Records", default_factory=list)
    detail: S3Place | None = None

    def objects(self) -> Sequence[tuple[str, str]]:
        """(bucket, key) of all that is spoken of."""
        named = [record.s3 for record in self.records] + ([self.detail] if self.detail is not None else [])
        return [(one.bucket.name, one.object.key) for one in named]


def partitions_of(call: S3Call, *, bucket: str | None, prefix: str) -> set[int]:
    """The partitions whose devices have something of it; empty when it is about nothing that is watched.

    Records write keys encoded as in a form, EventBridge as they are: both readings may name a device, and a look too
    many does no harm.
    """
    found = set()
    for its_bucket, key in call.objects():
        if bucket is None or its_bucket == bucket:
            for one in {key, unquote_plus(key)}:
                if (device_id := _device_of(one, prefix)) is not None:
                    found.add(partition_of(device_id))
    return found


def _device_of(key: str, prefix: str) -> str | None:
    lead = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
    parts = key[len(lead) :].split("/") if key.startswith(lead) else []
    if len(parts) < 3 or parts[0] not in _AREAS or device_id_problem(parts[1]):
        return None
    return parts[1]


def same_secret(known: str | None, given: str | None) -> bool:
    """Whether the secret is the one that is known, in a time that tells nothing of either."""
    # JSON may bring half a surrogate pair, which is no UTF-8 and no secret.
    is_same = hmac.compare_digest((known or _NO_SECRET).encode(), (given or "").encode(errors="surrogatepass"))
    return is_same and known is not None


def signature_of(secret: str, body: bytes, at: int) -> str:
    """What a bridge of one's own sends along with a call: the moment, and an HMAC-SHA256 over it and the body."""
    signed = b"%d.%b" % (at, body)
    return f"t={at},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"


def is_signed(secret: str, body: bytes, given: str, *, now: float) -> bool:
    """Whether the signature holds for this body, and is not older than five minutes."""
    found = _SIGNATURE.fullmatch(given)
    if found is None or abs(now - int(found[1])) > SIGNED_FOR_S:
        return False
    return hmac.compare_digest(signature_of(secret, body, int(found[1])), given)
