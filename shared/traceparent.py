"""W3C Trace Context as jobs and events carry it: whose trace a file, its job and its event belong to.

The trace of a file is named after its job: both ids come from the job's, and so does whether it is traced at all. A
page that is recorded twice because the answer to its commit was lost is then one trace, not two.
Source: W3C Trace Context, level 1, `traceparent`, version 00.
"""

import re
from hashlib import blake2b
from typing import Final, NamedTuple
from uuid import UUID

__all__ = ["SAMPLED_END", "Traceparent", "of_event", "of_job", "parse"]

SAMPLED_END: Final = b'01"}'
"""How an encoded event ends that is traced: `traceparent` is the last of its fields. Few others do."""

_FORM: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)
_FIELD: Final = b',"traceparent":"'
_LENGTH: Final = 55
_TAIL: Final = len(_FIELD) + _LENGTH + 2


class Traceparent(NamedTuple):
    """The trace and the span in it that what carries this belongs to."""

    trace_id: int
    span_id: int
    is_sampled: bool

    def __str__(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


def parse(text: str | None) -> Traceparent | None:
    """None when it is none: another version, another form, or an id of zeros, which stands for no id."""
    found = _FORM.fullmatch(text) if text is not None else None
    if found is None:
        return None
    trace_id, span_id = int(found[1], 16), int(found[2], 16)
    return Traceparent(trace_id, span_id, bool(int(found[3], 16) & 1)) if trace_id and span_id else None


def of_event(body: bytes) -> Traceparent | None:
    """That of an encoded event, which is not parsed for it: it stands at the end or nowhere.

    A quote inside of a value is escaped, so nobody's data can look like the field.
    """
    tail = body[-_TAIL:]
    if not tail.startswith(_FIELD) or not tail.endswith(b'"}'):
        return None
    return parse(tail[len(_FIELD) : -2].decode("ascii", "replace"))


def of_job(job_id: UUID, sample: float) -> Traceparent | None:
    """What the file that becomes this job is traced by; None for those that are not among the `sample` (0 to 1)."""
    if sample <= 0:
        return None
    digest = blake2b(job_id.bytes, digest_size=16, person=b"fleetwire.trace").digest()
    if int.from_bytes(digest[8:]) >= sample * 2**64:
        return None
    return Traceparent(job_id.int, int.from_bytes(digest[:8]) or 1, is_sampled=True)
