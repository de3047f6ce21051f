"""What browsers fetch for the operators' page: no part of what clients are made of."""

from typing import Annotated, Final

from msgspec import Meta, Struct

from api.description import Answer, Description, Parameter

__all__ = ["BEGIN", "END", "LIVE", "LOOK", "PIECE", "SignIn", "SignedIn"]


class SignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A token with the scope operator."""

    token: Annotated[str, Meta(min_length=1, max_length=8192)]


class SignedIn(Struct, frozen=True):
    """Who signed in, for how many seconds yet, and what requests that change something must bring."""

    subject: str
    csrf: str
    expires_in_s: int


PIECE: Final = Description(
    id="dashboardPiece", summary="A file of the operators' page", answers={200: Answer("The file.")}, listed=False
)
BEGIN: Final = Description(
    id="beginSession", summary="Sign in by a token", answers={200: Answer("A cookie.", SignedIn)}, listed=False
)
LOOK: Final = Description(
    id="readSession", summary="Who is signed in", answers={200: Answer("That is who.", SignedIn)}, listed=False
)
END: Final = Description(id="endSession", summary="Sign out", answers={204: Answer("No cookie.")}, listed=False)
LIVE: Final = Description(
    id="live",
    summary="The fleet as it stands, and every change",
    query=(Parameter(name="devices", kind=str, about="Ids of devices to tell of, separated by commas."),),
    answers={200: Answer("Server-sent events.", media_type="text/event-stream")},
    listed=False,
)
