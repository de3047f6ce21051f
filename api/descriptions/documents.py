"""The document itself, and the page that shows it."""

from typing import Any, Final

from api.description import Answer, Description

__all__ = ["DOCS_PAGE", "DOCS_PIECE", "DOCUMENT"]

DOCUMENT: Final = Description(
    id="openapi",
    summary="This document",
    headers=("If-None-Match",),
    answers={
        200: Answer("OpenAPI 3.1.", dict[str, Any], headers=("ETag", "Cache-Control")),
        304: Answer("The client has it.", headers=("ETag", "Cache-Control")),
    },
)
# For browsers, and no part of what clients are made of.
DOCS_PAGE: Final = Description(
    id="docsPage", summary="The document for people", answers={200: Answer("A page.")}, listed=False
)
DOCS_PIECE: Final = Description(
    id="docsPiece", summary="A file of the page", answers={200: Answer("The file.")}, listed=False
)
