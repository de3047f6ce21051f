"""A template as it is answered: encoded once, whoever keeps it then and however often it is given out."""

from collections.abc import Sequence
from typing import Final

import msgspec
from starlette.responses import Response

from api.answers import moment
from api.descriptions.templates import TemplateSummary
from api.preconditions import etag_of
from shared.store.templates import ListedTemplate, TemplateRow

__all__ = ["ASK_AGAIN", "FOR_GOOD", "ReadyAnswer", "encoded_template", "listed_template", "template_headers"]

# What was read once may be kept, but not used again without asking; one version never changes.
ASK_AGAIN: Final = "private, no-cache"
FOR_GOOD: Final = "private, max-age=86400, immutable"


class ReadyAnswer(Response):
    """An answer of bytes that are there already. Its headers are its own: others may add to them."""

    def __init__(self, status: int, raw_headers: Sequence[tuple[bytes, bytes]], body: bytes = b"") -> None:
        self.status_code = status
        self.background = None
        self.body = body
        self.raw_headers = list(raw_headers)


def listed_template(row: ListedTemplate | TemplateRow) -> TemplateSummary:
    """As lists show it."""
    return TemplateSummary(str(row.template_id), row.name, row.version, moment(row.created_at), moment(row.updated_at))


def encoded_template(row: TemplateRow) -> bytes:
    """The whole of it. The body goes out as it is kept, without being read."""
    return msgspec.json.encode(listed_template(row))[:-1] + b',"body":' + row.body.encode() + b"}"


def template_headers(version: int, caching: str) -> dict[str, str]:
    """What comes with it, and with a 304 instead of it."""
    return {"ETag": etag_of(version), "Cache-Control": caching}
