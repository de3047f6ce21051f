"""What a value from outside lacks, as the name of a member and a sentence for the person who sent it.

The library that checks values against types says it in one string; this takes it apart, for REST and frames alike.
"""

import re
from typing import Any, Final

import msgspec

__all__ = ["convert", "field_of"]

_AT: Final = re.compile(r" - at `\$([^`]*)`$")
_MISSING: Final = re.compile(r"missing required field `([^`]*)`")
_UNKNOWN: Final = re.compile(r"unknown field `([^`]*)`")


def convert(value: Any, kind: Any) -> Any:
    """A decoded JSON value as what it should be. Raises msgspec.ValidationError.

    JSON can spell half a character (a lone surrogate). Where it stands for anything but free text, the library fails
    over its own message about that.
    """
    try:
        return msgspec.convert(value, kind)
    except UnicodeEncodeError:
        raise msgspec.ValidationError("there is half a character (a lone surrogate) in it") from None


def field_of(error: msgspec.ValidationError) -> tuple[str, str]:
    """(member, sentence) of a validation error; the member as a path such as `events[3].type`."""
    text = str(error)
    place = _AT.search(text)
    path = place[1].lstrip(".") if place else ""
    sentence = text[: place.start()] if place else text
    if named := _MISSING.search(sentence) or _UNKNOWN.search(sentence):
        path = f"{path}.{named[1]}" if path else named[1]
    sentence = sentence.replace("Object missing", "missing").replace("Object contains", "there is an").replace("`", "")
    return path, f"{path or 'body'}: {sentence[:1].lower()}{sentence[1:]}"
