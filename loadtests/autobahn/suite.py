"""Runs Autobahn's case files by `kosoku` and sums up what they say.

In kosoku 0.1.0 the cases of compressed messages (12 and 13) are handed what came back as `str`, where the case files,
written for Python 2, expect bytes: without the adapter here they fail for every server alike.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import kosoku

__all__ = ["Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """Case ids by what became of them, in case order."""

    ok: list[str] = field(default_factory=list)
    non_strict: list[str] = field(default_factory=list)
    informational: list[str] = field(default_factory=list)
    unimplemented: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """How many ran."""
        return sum(map(len, (self.ok, self.non_strict, self.informational, self.unimplemented, self.failed)))


async def run(url: str, cases: Sequence[str], *, concurrency: int = 2) -> Outcome:
    """Run cases (ids, or globs as `9.*`) against a server that sends everything back."""
    await _adapt(url)
    outcome = Outcome()
    for result in await _results(url, cases, concurrency):
        closed = result.behavior_close.value
        match result.behavior.value:
            case "OK" if closed in ("OK", "INFORMATIONAL"):
                outcome.ok.append(result.case_id)
            case "NON-STRICT" if closed in ("OK", "INFORMATIONAL"):
                outcome.non_strict.append(result.case_id)
            case "INFORMATIONAL":
                outcome.informational.append(result.case_id)
            case "UNIMPLEMENTED":
                outcome.unimplemented.append(result.case_id)
            case said:
                outcome.failed[result.case_id] = f"{said}, close {closed}: {result.result or result.result_close}"
    return outcome


async def _results(url: str, cases: Sequence[str], concurrency: int) -> Sequence[Any]:
    try:
        return await kosoku.run_fuzzingclient(url, cases=list(cases), concurrency=concurrency)
    except kosoku.FailureError as error:
        if not error.results:
            raise
        return error.results


async def _adapt(url: str) -> None:
    # The case files are loaded with the first run.
    await _results(url, ["1.1.1"], 1)
    for name, module in list(sys.modules.items()):
        if name.endswith("case12_x_x") and not hasattr(module, "adapted"):
            module.adapted = True  # type: ignore[attr-defined]
            for case in (*module.Case12_X_X, *module.Case13_X_X):
                case.onMessage = _with_bytes(case.onMessage)


def _with_bytes(on_message: Callable[[Any, Any, bool], None]) -> Callable[[Any, Any, bool], None]:
    def adapted(self: Any, message: Any, binary: bool) -> None:
        if isinstance(message, str):
            message = message.encode("latin-1" if binary else "utf-8")
        on_message(self, message, binary)

    return adapted
