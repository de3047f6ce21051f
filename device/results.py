"""What became of an operation: as the server says it, and as the application is given it.

Read leniently: a server that is newer than this client may say more, and a status that is not known here counts as
`retry`, since only the four that are known are final.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import msgspec

__all__ = ["FINAL", "Answer", "Answers", "Fault", "Result", "Status", "as_kept", "from_kept"]

Status = Literal["applied", "duplicate", "conflict", "rejected"]
FINAL: Final = frozenset({"applied", "duplicate", "conflict", "rejected"})


class Fault(msgspec.Struct, frozen=True):
    """Why an operation had no effect. `code` is for programs, `detail` for people, `field` the member to mend."""

    code: str = ""
    detail: str = ""
    field: str | None = None


class Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    """One result of a batch."""

    op_id: str | None
    status: str
    http: int = 0
    version: int | None = None
    entity: dict[str, Any] | None = None
    error: Fault | None = None
    retry_after_s: float | None = None

    @property
    def is_final(self) -> bool:
        """Whether sending it again would change nothing."""
        return self.status in FINAL

    @property
    def has_effect(self) -> bool:
        """Whether the operation was applied, now or before."""
        return self.status in ("applied", "duplicate") and self.error is None


class Answers(msgspec.Struct, frozen=True):
    """The results of a batch."""

    results: list[Answer]


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an operation of yours.

    `applied`: done, the entity has `version` now. `duplicate`: done, or rejected if there is an `error`, the first time
    that it was sent. `conflict`: nothing was done, somebody else changed the entity: `entity` is the server's state, if
    it was not too large to be sent. `rejected`: nothing was done, for good; `error` says why. `operation` is what was
    submitted. `redelivered`: an application of this device may have had this result before.
    """

    op_id: str
    status: Status
    http: int
    version: int | None
    entity: Mapping[str, Any] | None
    error: Fault | None
    operation: Mapping[str, Any]
    redelivered: bool
    number: int  # in the order in which results came

    @property
    def has_effect(self) -> bool:
        """Whether the operation was applied, now or before."""
        return self.status in ("applied", "duplicate") and self.error is None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Answer)


def as_kept(answer: Answer) -> str:
    """A final answer as text, to be kept until the application has taken it."""
    return _encoder.encode(answer).decode()


def from_kept(op_id: str, text: str, operation: str, *, number: int, redelivered: bool) -> Result:
    """The result for the application. Raises msgspec.DecodeError."""
    answer = _decoder.decode(text)
    return Result(
        op_id=op_id,
        status=cast("Status", answer.status),
        http=answer.http,
        version=answer.version,
        entity=answer.entity,
        error=answer.error,
        operation=msgspec.json.decode(operation, type=dict[str, Any]),
        redelivered=redelivered,
        number=number,
    )
