"""Conditions that come with a request: entity tags of RFC 9110, where a tag is a version in quotes.

`If-Match` compares strongly: a weak tag or one that we never gave out matches nothing. `If-None-Match` compares weakly,
as it must behind proxies that compress.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from api.inputs import Headers
from api.problems import Problem

__all__ = ["etag_of", "is_known", "precondition_failed", "seen_versions"]

_TAG: Final = re.compile(rb'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')
_LIST: Final = re.compile(rb'[ \t,]*(?:(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"[ \t]*(?:,[ \t,]*|$))+')
_VERSION: Final = re.compile(rb'"([1-9][0-9]{0,9})"')
_VERSION_MAX: Final = 2**31 - 1


def etag_of(version: int) -> str:
    """The strong entity tag of a version."""
    return f'"{version}"'


def seen_versions(headers: Headers) -> frozenset[int] | None:
    """The versions of `If-Match`, upon which a change may be made; None for `*`, upon any.

    Raises Problem (428, 400). Empty when it names none that there can be.
    """
    values = headers.get(b"if-match")
    if not values:
        raise Problem("precondition-required", 'send If-Match with the ETag that you have read, such as "3"')
    text = b",".join(values).strip(b" \t")
    if text == b"*":
        return None
    if _LIST.fullmatch(text) is None:
        raise Problem("invalid-request", 'If-Match must be "<version>", a list of such, or *', field="If-Match")
    found = (_VERSION.fullmatch(tag) for weak, tag in _TAG.findall(text) if not weak)
    return frozenset(version for one in found if one is not None and (version := int(one[1])) <= _VERSION_MAX)


def is_known(headers: Headers, etag: str) -> bool:
    """Whether `If-None-Match` says that the client has it already: then 304 is the answer."""
    values = headers.get(b"if-none-match")
    if not values:
        return False
    text, wanted = b",".join(values), etag.encode()
    return text == wanted or text.strip(b" \t") == b"*" or any(tag == wanted for _, tag in _TAG.findall(text))


def precondition_failed(version: int, current: Mapping[str, Any]) -> Problem:
    """The Problem (412) for a change upon another version than the newest, which it brings along."""
    detail = f"its version is {version}: merge with `current` and send it again with that ETag"
    headers = {"ETag": etag_of(version)}
    return Problem("precondition-failed", detail, headers=headers, version=version, current=dict(current))
