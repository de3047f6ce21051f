"""What an operation says of itself: a resource cannot be built without, and the published document is made of it.

The body's type, the scopes and the idempotency are said where they are enforced, in `Operation`; the problems that
come of those follow by themselves (`api/openapi.py`). The query parameters declared here are the only ones that a
handler can read, so none is forgotten. Examples are sent as they stand by a test, one request for each operation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from msgspec import Meta

from api.descriptions.common import DeviceId, HeaderText, HubName, Uuid
from api.problems import PROBLEMS

__all__ = ["ANSWER_HEADERS", "PATH_PARAMETERS", "REQUEST_HEADERS", "Answer", "Description", "Parameter", "undescribed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """A parameter of a query, a path or a header: `kind` is a type that says what is taken.

    With an `example` it is part of the example request of its operation.
    """

    name: str
    kind: Any
    about: str
    example: str | int | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One status of an operation that is no problem. Without `body` the answer has none.

    `headers` are names of `ANSWER_HEADERS`, and always sent.
    """

    about: str
    body: Any = None
    headers: tuple[str, ...] = ()
    media_type: str = "application/json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """`id` is the operation's name in generated clients. `problems` are those that no check of the resource raises.

    `body_kind` and `body_example` are of the body, the type only where it is not the one that is decoded to;
    `mentions` are types that its schema refers to by name. What is not `listed` is no part of the document.
    """

    id: str
    summary: str
    answers: Mapping[int, Answer]
    about: str = ""
    query: tuple[Parameter, ...] = ()
    headers: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    body_kind: Any = None
    body_example: Any = None
    mentions: tuple[Any, ...] = ()
    listed: bool = True
    query_names: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "query_names", frozenset(parameter.name for parameter in self.query))


ANSWER_HEADERS: Final[Mapping[str, Parameter]] = {
    header.name: header
    for header in (
        Parameter(name="Location", kind=str, about="Where it is."),
        Parameter(name="ETag", kind=str, about="Its version, in quotes: for `If-Match` and `If-None-Match`."),
        Parameter(name="Cache-Control", kind=str, about="How long it may be kept."),
    )
}

REQUEST_HEADERS: Final[Mapping[str, Parameter]] = {
    header.name: header
    for header in (
        Parameter(
            name="If-Match",
            kind=Annotated[str, Meta(extra_json_schema={"pattern": r'^(\*|"[1-9][0-9]{0,8}")$'})],
            about="The ETag of what is changed, as it was read; a list of such, or `*` for any.",
            example='"1"',
            required=True,
        ),
        Parameter(
            name="If-None-Match",
            kind=str,
            about="The ETag of what is there already: 304 when that is the newest.",
        ),
        Parameter(
            name="Fleetwire-Read-After",
            kind=Annotated[
                str,
                Meta(extra_json_schema={"pattern": "^(primary|[1-9][0-9]{0,8}:[0-9A-F]{1,8}/[0-9A-F]{1,8})$"}),
            ],
            about="The newest `Fleetwire-Wrote` that came with an answer: what is listed is at least as new.",
        ),
        Parameter(
            name="X-Goog-Channel-ID",
            kind=HeaderText,
            about="The channel, as we named it.",
            example="0198b7c2-0000-7000-8000-0000000000d1",
            required=True,
        ),
        Parameter(
            name="X-Goog-Channel-Token",
            kind=HeaderText,
            about="The secret that the channel was opened with.",
            example="drive:fleet~000102030405060708090a0b0c0d0e0f",
            required=True,
        ),
        Parameter(
            name="X-Goog-Message-Number",
            kind=Annotated[str, Meta(extra_json_schema={"pattern": "^[0-9]{1,18}$"})],
            about="Rises with each call of a channel: one that came before is a repetition.",
            example="7",
            required=True,
        ),
        Parameter(
            name="X-Goog-Resource-State",
            kind=HeaderText,
            about="`sync` when the channel was opened, else that something changed.",
            example="change",
            required=True,
        ),
        Parameter(
            name="Fleetwire-Hook-Secret",
            kind=HeaderText,
            about="`FLEETWIRE_HOOKS_S3_SECRET` itself, as EventBridge sends it.",
            example="the-secret-of-the-scene-0123456789",
        ),
        Parameter(
            name="Fleetwire-Hook-Signature",
            kind=Annotated[str, Meta(extra_json_schema={"pattern": "^t=[0-9]{1,12},v1=[0-9a-f]{64}$"})],
            about="Instead of the secret: `t=` the time in seconds, `v1=` the HMAC-SHA256, by the secret, over "
            "that time, a dot and the body.",
        ),
    )
}

PATH_PARAMETERS: Final[Mapping[str, Parameter]] = {
    parameter.name: parameter
    for parameter in (
        Parameter(name="device_id", kind=DeviceId, about="The device.", example="truck-7"),
        Parameter(name="hub", kind=HubName, about="The hub.", example="hub-1"),
        Parameter(name="file_id", kind=Uuid, about="The file.", example="0198b7c2-0000-7000-8000-0000000000f1"),
        Parameter(name="job_id", kind=Uuid, about="The job.", example="0198b7c2-0000-7000-8000-0000000000b1"),
        Parameter(name="photo_id", kind=Uuid, about="The photo.", example="0198b7c2-0000-7000-8000-0000000000a1"),
        Parameter(
            name="inspection_id", kind=Uuid, about="The inspection.", example="0198b7c2-0000-7000-8000-0000000000e1"
        ),
        Parameter(
            name="schedule",
            kind=Annotated[str, Meta(extra_json_schema={"pattern": "^[a-z0-9][a-z0-9._-]{0,63}$", "maxLength": 64})],
            about="The schedule's name.",
            example="daily-load",
        ),
        Parameter(name="template_id", kind=Uuid, about="The template.", example="0198b7c2-0000-7000-8000-0000000000c1"),
    )
}


def undescribed(description: Description, path_names: frozenset[str]) -> str | None:
    """What the document could not say of an operation with these parameters in its path, as a sentence, or None."""
    if not any(status < 400 for status in description.answers):
        return "declare an answer that is no problem"
    for name in path_names - PATH_PARAMETERS.keys() if description.listed else ():
        return f"declare the path parameter {name} in PATH_PARAMETERS"
    for name in set(description.headers) - REQUEST_HEADERS.keys():
        return f"declare the request header {name} in REQUEST_HEADERS"
    for slug in set(description.problems) - PROBLEMS.keys():
        return f"there is no problem {slug}"
    for answer in description.answers.values():
        for name in set(answer.headers) - ANSWER_HEADERS.keys():
            return f"declare the header {name} in ANSWER_HEADERS"
    return None
