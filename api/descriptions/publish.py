"""Publishing events and notices."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from api.description import Answer, Description
from api.descriptions.common import DeviceClass, DeviceId, JsonObject, Position, Printable

__all__ = ["NOTIFY", "PUBLISH", "Event", "NoticeBody", "NoticeTaken", "Publication", "Published", "PublishedEvent"]


class Event(Struct, frozen=True):
    """An event to record for a device. Give `key` or `id`: only then may the request be sent again."""

    device_id: DeviceId
    type: Annotated[str, Meta(extra_json_schema={"pattern": "^[A-Za-z][A-Za-z0-9._-]{0,127}$"})]
    data: JsonObject
    id: Printable | None = None
    key: str | None = None
    source: str = "/fleetwire/api"
    time: Annotated[str, Meta(extra_json_schema={"format": "date-time"})] | None = None
    traceparent: str | None = None


class Publication(Struct, frozen=True, forbid_unknown_fields=True):
    """Events as `Event` describes them. Each is taken or refused by itself, also one that is nothing of the kind."""

    events: Annotated[
        list[Any],
        Meta(
            extra_json_schema={
                "minItems": 1,
                "maxItems": 500,
                "items": {"anyOf": [{"$ref": "#/components/schemas/Event"}, {}]},
            }
        ),
    ]


class PublishedEvent(Struct, frozen=True, omit_defaults=True):
    """What became of one event."""

    status: Literal["recorded", "duplicate", "conflict", "unknown_device", "invalid"]
    id: str | None = None
    position: Position | None = None
    field: str | None = None
    detail: str | None = None


class Published(Struct, frozen=True):
    """One result for each event, in their order."""

    results: list[PublishedEvent]


class NoticeBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What to tell every device that is connected now, or those of a class. At most 4 KiB encoded."""

    data: JsonObject
    id: Printable | None = None
    device_class: DeviceClass | None = field(name="class", default=None)


class NoticeTaken(Struct, frozen=True):
    """The notice's id, by which devices drop repeats."""

    id: str


PUBLISH: Final = Description(
    id="publishEvents",
    summary="Record events for devices",
    answers={200: Answer("A result for each.", Published)},
    body_kind=Publication,
    mentions=(Event,),
    body_example={
        "events": [{"device_id": "truck-7", "type": "RouteChanged", "data": {"route": "A8"}, "key": "route-a8-1"}]
    },
)
NOTIFY: Final = Description(
    id="notify",
    summary="Tell the devices that are connected now",
    about="Kept nowhere, and delivered at most once.",
    answers={202: Answer("Handed on.", NoticeTaken)},
    problems=("too-many-requests",),
    body_example={"data": {"text": "Depot 3 is closed"}, "class": "truck"},
)
