"""Types that several operations speak with.

Where the handler's own check names the mistake better than the decoder would, a rule stands in the schema only.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = [
    "Cursor",
    "DeviceClass",
    "DeviceId",
    "FileName",
    "HeaderText",
    "HubName",
    "JsonObject",
    "Limit",
    "Moment",
    "Position",
    "Printable",
    "ProblemBody",
    "StatusWord",
    "Uuid",
]

DeviceId = Annotated[
    str,
    Meta(
        description="1 to 64 characters of a-z 0-9 . _ -, no `..`, and no name that stores reserve (`con`, `nul`).",
        extra_json_schema={
            "pattern": "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$",
            "maxLength": 64,
            "format": "fleetwire-device-id",
            "not": {"pattern": r"\.\.|^(con|prn|aux|nul|com[1-9]|lpt[1-9])(\.|$)"},
        },
    ),
]
DeviceClass = Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z][a-z0-9_-]{0,31}$", "maxLength": 32})]
HubName = Annotated[
    str,
    Meta(
        description="The name of a hub.",
        extra_json_schema={"pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", "maxLength": 64},
    ),
]
Uuid = Annotated[
    str,
    Meta(
        description="A UUID in lower case.",
        extra_json_schema={
            "pattern": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
            "maxLength": 36,
            "format": "uuid",
        },
    ),
]
Moment = Annotated[
    str,
    Meta(
        description="RFC 3339 in UTC.",
        extra_json_schema={"format": "date-time", "pattern": "Z$", "examples": ["2026-11-22T08:30:00.000000Z"]},
    ),
]
Position = Annotated[
    str,
    Meta(
        description="`epoch:seq`, the epoch from 1 to 2^31 - 1, the seq from 0 to 2^53 - 1.",
        extra_json_schema={"pattern": "^[0-9]{1,16}:[0-9]{1,16}$", "maxLength": 33, "format": "fleetwire-position"},
    ),
]
Cursor = Annotated[
    str,
    Meta(description="`next` of the page before, unchanged.", extra_json_schema={"format": "fleetwire-cursor"}),
]
Limit = Annotated[int, Meta(ge=1, le=500)]
FileName = Annotated[
    str,
    Meta(
        description="One path component of at most 200 bytes, without control characters.",
        extra_json_schema={
            "minLength": 1,
            "maxLength": 200,
            "format": "fleetwire-file-name",
            "pattern": r"^[^/\\\u0000-\u001f\u007f-\u009f]+$",
            "not": {"enum": [".", ".."]},
        },
    ),
]
# Wider than what is taken, which is what Unicode calls printable: no pattern can say that everywhere.
Printable = Annotated[
    str,
    Meta(
        description="1 to 128 printable characters.",
        extra_json_schema={"minLength": 1, "maxLength": 128, "pattern": r"^[^\u0000-\u001f\u007f]+$"},
    ),
]
HeaderText = Annotated[str, Meta(extra_json_schema={"minLength": 1, "maxLength": 512, "pattern": "^[!-~]+( [!-~]+)*$"})]
JsonObject = Annotated[
    dict[str, Any], Meta(description="An object, with integers of at most 64 bits, nested at most 30 deep.")
]


class ProblemBody(Struct, frozen=True, rename={"kind": "type"}):
    """RFC 9457. Some types bring members of their own: the `position` to go on from, the `state` it is in."""

    kind: str
    title: str
    status: int
    detail: str
    request_id: str
    field: str | None = None


class StatusWord(Struct, frozen=True):
    """One word."""

    status: Literal["ok", "ready", "not ready"]
