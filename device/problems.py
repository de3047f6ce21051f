"""What a refusal says: problem bodies (RFC 9457) and Retry-After, read alike from the API and from a hub. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

__all__ = ["FLAPPING", "OUR_WORDS", "ProblemBody", "problem_detail", "problem_type", "retry_after_of"]

_TYPE: Final = "urn:fleetwire:problem:"

OUR_WORDS: Final = frozenset({f"{_TYPE}invalid-parameter", f"{_TYPE}invalid-body"})
"""What this client said itself was wrong, so that saying it again is pointless."""

FLAPPING: Final = f"{_TYPE}flapping"
"""This device connects too often: events by REST for a while."""


class ProblemBody(msgspec.Struct):
    """A problem, and the members that a reset adds."""

    title: str = ""
    detail: str = ""
    type: str = "about:blank"
    position: str | None = None
    reason: str | None = None


def problem_detail(body: bytes) -> str:
    """What a problem body says, for people; empty when it is none."""
    problem = _problem(body)
    return (problem.detail or problem.title)[:500]


def problem_type(body: bytes) -> str:
    """Which problem it is, for programs."""
    return _problem(body).type


def retry_after_of(headers: Mapping[str, str]) -> float | None:
    """Retry-After in seconds; the form with a date is not used by our server and counts as absent."""
    text = headers.get("retry-after", "").strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) <= 6 else None


def _problem(body: bytes) -> ProblemBody:
    try:
        return msgspec.json.decode(body, type=ProblemBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ProblemBody()
