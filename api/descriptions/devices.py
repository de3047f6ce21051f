"""A device: its state, where it connects, its events, acks and responses."""

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct, field

from api.description import Answer, Description, Parameter
from api.descriptions.common import DeviceClass, DeviceId, HubName, Moment, Position, Uuid
from api.descriptions.parameters import PAGE

__all__ = [
    "ACK",
    "CONNECT",
    "EVENTS",
    "LIST_DEVICES",
    "PUT_DEVICE",
    "READ_DEVICE",
    "RESPONSES",
    "AckBody",
    "Acked",
    "Assigned",
    "Connected",
    "Device",
    "DeviceBody",
    "DeviceSummary",
    "DevicesPage",
    "EventsPage",
    "HubPlace",
    "NumberedEvent",
    "RequestNamed",
    "ResponseFile",
    "ResponseSummary",
    "ResponsesPage",
]


class DeviceBody(Struct, frozen=True, forbid_unknown_fields=True):
    """What a device is."""

    device_class: DeviceClass = field(name="class")


class Connected(Struct, frozen=True):
    """The newest connection of a device."""

    hub: str
    hub_alive: bool
    connected_at: Moment | None


class Device(Struct, frozen=True):
    """A device as it is now. `lag` is how many events it has not acked."""

    device_id: DeviceId
    device_class: DeviceClass = field(name="class")
    created_at: Moment
    position: Position
    acked_at: Moment | None
    head: int
    floor: int
    lag: int
    connection: Connected | None
    disconnected_at: Moment | None


class DeviceSummary(Struct, frozen=True):
    """A device as lists show it. `lag` is how many events it has not acked, `hub` where it was last said to be."""

    device_id: DeviceId
    device_class: DeviceClass = field(name="class")
    position: Position
    head: int
    lag: int
    hub: str | None


class DevicesPage(Struct, frozen=True):
    """Devices by id. `next` is the `cursor` of the following page."""

    devices: list[DeviceSummary]
    next: str | None


class HubPlace(Struct, frozen=True):
    """A hub, and where its socket is."""

    hub: str
    url: str


class Assigned(Struct, frozen=True):
    """Where the device connects, and the ticket that admits it, once and soon."""

    hub: str
    url: str
    ticket: str
    ticket_expires_at: Moment
    alternatives: list[HubPlace]
    mode: Literal["direct", "proxy"]


class NumberedEvent(Struct, frozen=True):
    """An event with its number; `event` is a CloudEvents 1.0 object."""

    seq: int
    event: dict[str, Any]


class EventsPage(Struct, frozen=True):
    """Events in order. `position` is where to go on, `more` says whether there are some already."""

    position: Position
    head: int
    more: bool
    events: list[NumberedEvent]


class AckBody(Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to here is done with."""

    position: Position


class Acked(Struct, frozen=True):
    """Where the cursor stands, and the log's head."""

    position: Position
    head: int


class RequestNamed(Struct, frozen=True):
    """The request that was answered."""

    name: str


class ResponseFile(Struct, frozen=True):
    """One file of a response; `url` never expires."""

    file_id: Uuid
    name: str
    size: int
    sha256: str
    content_type: str
    url: str


class ShortAnswer(Struct, frozen=True):
    """All of a response that has no file. `outcome` says whether the request could be read."""

    handler: str
    outcome: str
    detail: str | None
    summary: dict[str, Any]


class ResponseSummary(Struct, frozen=True):
    """How a request ended. `answer` is the response itself where it has no file."""

    response_id: Uuid
    job_id: Uuid | None
    request: RequestNamed | None
    outcome: Literal["ready", "failed"]
    reason: str | None
    event_id: str | None
    completed_at: Moment
    files: list[ResponseFile]
    answer: ShortAnswer | None


class ResponsesPage(Struct, frozen=True):
    """Responses, newest first. `next` is the `cursor` of the following page."""

    responses: list[ResponseSummary]
    next: str | None


LIST_DEVICES: Final = Description(
    id="listDevices",
    summary="Devices by id",
    about="A page may be short, even empty, and still have a next one.",
    query=(
        Parameter(
            name="prefix",
            kind=Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9][a-z0-9._-]{0,63}$", "maxLength": 64})],
            about="What ids begin with.",
            example="truck",
        ),
        Parameter(name="class", kind=DeviceClass, about="Only devices of this class."),
        Parameter(
            name="hub",
            kind=HubName,
            about="Only devices that are connected there.",
        ),
        Parameter(
            name="state",
            kind=Literal["connected", "away", "behind"],
            about="Only those that are connected, that are not, or that have not acked all.",
        ),
        *PAGE,
    ),
    answers={200: Answer("A page.", DevicesPage)},
)
READ_DEVICE: Final = Description(
    id="readDevice",
    summary="A device as it is now",
    answers={200: Answer("The device.", Device)},
    problems=("not-found",),
)
PUT_DEVICE: Final = Description(
    id="putDevice",
    summary="Make a device, or change its class",
    answers={200: Answer("There was one; it is of that class now.", Device), 201: Answer("It was made.", Device)},
    body_example={"class": "truck"},
)
CONNECT: Final = Description(
    id="connect",
    summary="Where the device connects",
    about="The ticket opens one socket, at any of the hubs named.",
    answers={200: Answer("A hub, and a ticket.", Assigned)},
    problems=("no-hub",),
)
EVENTS: Final = Description(
    id="readEvents",
    summary="Events after a position",
    about="Only an ack moves the cursor. A page ends at 64 KiB, but holds one event at least if there is one.",
    query=(
        Parameter(name="after", kind=Position, about="Without it, the acked position.", example="1:0"),
        Parameter(name="limit", kind=Annotated[int, Meta(ge=1, le=500)], about="At most so many.", example=50),
        Parameter(
            name="wait", kind=Annotated[int, Meta(ge=0, le=25)], about="Wait at most so many seconds for an event."
        ),
    ),
    answers={200: Answer("A page.", EventsPage)},
    problems=("reset", "too-many-waiting", "not-found"),
)
ACK: Final = Description(
    id="ack",
    summary="Move the device's cursor",
    about="The cursor never goes back.",
    answers={200: Answer("Where it stands.", Acked)},
    problems=("epoch-changed", "ack-above-head"),
    body_example={"position": "1:1"},
)
RESPONSES: Final = Description(
    id="listResponses",
    summary="The responses a device has",
    about="The state to fetch when the log cannot go on from where the device was.",
    query=PAGE,
    answers={200: Answer("A page, newest first.", ResponsesPage)},
    problems=("not-found",),
)
