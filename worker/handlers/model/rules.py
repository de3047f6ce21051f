"""What an answer of a model's server means: ask again, or not, and whether it can have cost anything. [pure]

Asked again are those that say nothing about the request: too many (429), and the server's own failures (5xx). What
can have been computed already may be on the bill, so it is counted as if it were.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["PAUSE_MAX_S", "Meaning", "Verdict", "judge", "pause_of", "redacted"]

PAUSE_MAX_S: Final = 3600.0

_AGAIN: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
_MAY_COST: Final = frozenset({408, 409, 502, 504})
_SET_UP: Final = frozenset({401, 402, 403, 404, 405, 407})
_SPENT: Final = frozenset({"insufficient_quota", "billing_hard_limit_reached"})
_TOO_LONG: Final = frozenset({"context_length_exceeded", "string_above_max_length"})
_LOOKS_SECRET: Final = re.compile(r"(?i)\bbearer\s+\S+|\b(?:sk|pk|rk|key|token)[-_][\w*.-]{6,}")


class Meaning(Enum):
    """What follows."""

    AGAIN = "again"
    REFUSED = "refused"
    TOO_LARGE = "too_large"
    SET_UP = "set_up"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`may_cost`: the server may have done the work that it did not hand over."""

    meaning: Meaning
    may_cost: bool = False


def judge(status: int, code: str) -> Verdict:
    """Of an answer that is not 200. `code` is the error's own word, where it has one."""
    if code in _SPENT or status in _SET_UP or status < 400:
        return Verdict(Meaning.SET_UP)
    if status == 413 or code in _TOO_LONG:
        return Verdict(Meaning.TOO_LARGE)
    if status in _AGAIN or status >= 500:
        return Verdict(Meaning.AGAIN, status in _MAY_COST or status not in _AGAIN)
    return Verdict(Meaning.REFUSED)


def pause_of(retry_after: str | None, retry_after_ms: str | None = None) -> float:
    """Seconds that the server wants to be left alone; 0 when it says nothing that is understood."""
    for text, unit in ((retry_after_ms, 0.001), (retry_after, 1.0)):
        if text is not None and re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text.strip()):
            return min(PAUSE_MAX_S, float(text) * unit)
    return 0.0


def redacted(text: str, *secrets: str, most: int = 200) -> str:
    """A foreign sentence fit for logs and devices: one line, short, without our secrets or what looks like one."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "[redacted]")
    text = _LOOKS_SECRET.sub("[redacted]", text)
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:most]
