"""Files of responses."""

from typing import Final

from api.description import Answer, Description

__all__ = ["READ_FILE"]

READ_FILE: Final = Description(
    id="readFile",
    summary="Where a file is",
    about="Follow it without the token; the bytes do not pass through here.",
    answers={302: Answer("At its store, for some minutes.", headers=("Location",))},
    problems=("not-found",),
)
