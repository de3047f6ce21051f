"""Templates: what inspections are made by."""

from typing import Annotated, Any, Final

from msgspec import Meta, Struct

from api.description import Answer, Description, Parameter
from api.descriptions.common import Moment, Uuid
from api.descriptions.parameters import PAGE

__all__ = [
    "CHANGE_TEMPLATE",
    "CREATE_TEMPLATE",
    "LIST_TEMPLATES",
    "READ_TEMPLATE",
    "Template",
    "TemplateContent",
    "TemplateSummary",
    "TemplatesPage",
]

_Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]


class TemplateContent(Struct, frozen=True, forbid_unknown_fields=True):
    """A template's name (printable characters) and its body, of at most 256 KiB as JSON."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    body: dict[str, Any]


class TemplateSummary(Struct, frozen=True):
    """A template as lists show it."""

    template_id: Uuid
    name: str
    version: _Version
    created_at: Moment
    updated_at: Moment


class Template(TemplateSummary, frozen=True):
    """A template in one version."""

    body: dict[str, Any]


class TemplatesPage(Struct, frozen=True):
    """Templates, newest first. `next` is the `cursor` of the following page."""

    templates: list[TemplateSummary]
    next: str | None


_EXAMPLE: Final = {"name": "Truck, daily", "body": {"questions": [{"id": "lights", "ask": "Do all lights work?"}]}}

LIST_TEMPLATES: Final = Description(
    id="listTemplates",
    summary="Templates without their bodies",
    query=PAGE,
    headers=("Fleetwire-Read-After",),
    answers={200: Answer("A page, newest first.", TemplatesPage)},
)
READ_TEMPLATE: Final = Description(
    id="readTemplate",
    summary="A template, its newest version or an earlier one",
    query=(Parameter(name="version", kind=_Version, about="This version, which never changes."),),
    headers=("If-None-Match", "Fleetwire-Read-After"),
    answers={
        200: Answer("The template.", Template, headers=("ETag", "Cache-Control")),
        304: Answer("The client has it.", headers=("ETag", "Cache-Control")),
    },
    problems=("not-found",),
)
CREATE_TEMPLATE: Final = Description(
    id="createTemplate",
    summary="A new template",
    answers={201: Answer("Its first version.", Template, headers=("Location", "ETag"))},
    body_example=_EXAMPLE,
)
CHANGE_TEMPLATE: Final = Description(
    id="changeTemplate",
    summary="The next version of a template",
    headers=("If-Match",),
    answers={200: Answer("The version that was made.", Template, headers=("ETag",))},
    problems=("not-found", "precondition-failed", "precondition-required"),
    body_example=_EXAMPLE,
)
