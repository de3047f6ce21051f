"""Where to look, and a status word."""

from typing import Final

from msgspec import Struct

from api.description import Answer, Description
from api.descriptions.common import StatusWord

__all__ = ["HEALTH", "INDEX", "READY", "Index"]


class Index(Struct, frozen=True):
    """What this is, and which paths there are."""

    service: str
    paths: list[str]


INDEX: Final = Description(id="index", summary="Which paths there are", answers={200: Answer("What this is.", Index)})
HEALTH: Final = Description(
    id="health", summary="Whether the process runs", answers={200: Answer("It does.", StatusWord)}
)
READY: Final = Description(
    id="ready",
    summary="Whether requests may be sent here",
    about="Why not is said on the operations port.",
    answers={200: Answer("They may.", StatusWord), 503: Answer("Not now, or not any more.", StatusWord)},
)
