"""The document itself."""

from typing import Any, Final

from api.description import Answer, Description

__all__ = ["DOCUMENT"]

DOCUMENT: Final = Description(
    id="openapi",
    summary="This document",
    headers=("If-None-Match",),
    answers={
        200: Answer("OpenAPI 3.1.", dict[str, Any], headers=("ETag", "Cache-Control")),
        304: Answer("The client has it.", headers=("ETag", "Cache-Control")),
    },
)
