"""One column of a table, summed up as its values go by, in constant memory. [pure]

Says what the column is (its type, from every value and not from a sample), how many values are missing, and its
range: numbers with mean, deviation and quantiles, times with first and last, text with its lengths. `distinct` is
exact up to a bound and "more than" above it.
"""

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from worker.handlers.quantiles import QuantileSketch

__all__ = ["DISTINCT_MAX", "FRACTIONS", "Column"]

DISTINCT_MAX: Final = 256
FRACTIONS: Final = {"p01": 0.01, "p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95, "p99": 0.99}
_MISSING: Final = frozenset({"na", "n/a", "null", "none", "nan", "#n/a"})
_BOOLEANS: Final = frozenset({"true", "false", "yes", "no"})
_WORD_MAX: Final = 5
_EXACT_INTEGER: Final = 2**53
_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,4})?", re.ASCII)
_DECIMAL_COMMA: Final = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:?\d\d)?)?", re.ASCII)


class Column:
    """Feed it with `add_text` (CSV) or `add_value` (JSON), end with `finish`."""

    __slots__ = (
        "_decimal_comma", "_distinct", "_first", "_kinds", "_last", "_longest", "_max", "_mean", "_min", "_shortest",
        "_sketch", "_spread", "name",
    )  # fmt: skip

    def __init__(self, name: str, *, sketch_capacity: int, decimal_comma: bool = False) -> None:
        self.name = name
        self._decimal_comma = decimal_comma
        self._kinds: dict[str, int] = {}
        self._distinct: set[int] = set()
        self._sketch = QuantileSketch(sketch_capacity)
        self._min = math.inf
        self._max = -math.inf
        self._mean = 0.0
        self._spread = 0.0
        self._first: tuple[datetime, str] | None = None
        self._last: tuple[datetime, str] | None = None
        self._shortest = -1
        self._longest = -1

    def add_text(self, text: str) -> None:
        """One cell of a CSV row."""
        text = text.strip()
        if not text:
            return
        if text[0] in "+-.0123456789" and self._add_numeric_text(text):
            return
        if len(text) <= _WORD_MAX:
            lowered = text.lower()
            if lowered in _MISSING:
                return
            if lowered in _BOOLEANS:
                self._note("boolean", lowered)
                return
        self._add_string(text)

    def add_value(self, value: Any) -> None:
        """One value of a JSON object."""
        if value is None:
            return
        if isinstance(value, bool):
            self._note("boolean", value)
        elif isinstance(value, int | float):
            self._add_number(float(value), integer=isinstance(value, int))
        elif isinstance(value, str):
            if not self._add_time(value):
                self._add_string(value)
        else:
            self._note("object" if isinstance(value, Mapping) else "array", None)

    def finish(self, rows: int) -> dict[str, Any]:
        """The summary as JSON values. What is neither counted nor there in `rows` is missing."""
        count = sum(self._kinds.values())
        summary: dict[str, Any] = {"name": self.name, "type": self._type(), "count": count, "missing": rows - count}
        if len(self._kinds) > 1:
            summary["kinds"] = dict(sorted(self._kinds.items()))
        if self._sketch.count:
            summary["number"] = self._numbers()
        if self._first is not None and self._last is not None:
            summary["time"] = {"first": self._first[1], "last": self._last[1]}
        if self._longest >= 0:
            summary["text"] = {"shortest": self._shortest, "longest": self._longest}
        if count and not self._kinds.keys() & {"object", "array"}:
            exact = len(self._distinct) <= DISTINCT_MAX
            summary["distinct"] = len(self._distinct) if exact else f"more than {DISTINCT_MAX}"
        return summary

    def _type(self) -> str:
        kinds = set(self._kinds)
        if not kinds:
            return "empty"
        if kinds == {"integer", "number"}:
            return "number"
        if kinds == {"date", "datetime"}:
            return "datetime"
        return kinds.pop() if len(kinds) == 1 else "mixed"

    def _numbers(self) -> dict[str, Any]:
        sketch, integers = self._sketch, "number" not in self._kinds
        quantiles = sketch.quantiles(list(FRACTIONS.values()))
        deviation = math.sqrt(self._spread / sketch.count) if self._spread >= 0 else math.nan
        return {
            "min": _shown(self._min, integers),
            "max": _shown(self._max, integers),
            "mean": _finite(self._mean),
            "deviation": _finite(deviation),
            "quantiles": {name: _shown(value, integers) for name, value in zip(FRACTIONS, quantiles, strict=True)},
            "rank_error_at_most": round(sketch.rank_error, 5),
        }

    def _add_numeric_text(self, text: str) -> bool:
        """Whether text that begins like a number was a number or a time."""
        if self._decimal_comma and _DECIMAL_COMMA.fullmatch(text):
            text = text.replace(",", ".")
        if len(text) <= 64 and _NUMBER.fullmatch(text):
            digits = text.lstrip("+-")
            if len(digits) > 1 and digits[0] == "0" and digits.isdigit():
                return False  # 007 is a label: a postcode, a part, a telephone
            value = float(text)
            if not math.isfinite(value):
                return False
            self._add_number(value, integer=digits.isdigit())
            return True
        return self._add_time(text)

    def _add_number(self, value: float, *, integer: bool) -> None:
        self._note("integer" if integer else "number", value)
        self._sketch.add(value)
        self._min = min(self._min, value)
        self._max = max(self._max, value)
        # Welford's update keeps the deviation right where the sum of squares would cancel.
        delta = value - self._mean
        self._mean += delta / self._sketch.count
        self._spread += delta * (value - self._mean)

    def _add_time(self, text: str) -> bool:
        if not 10 <= len(text) <= 32 or text[4] != "-" or _TIME.fullmatch(text) is None:
            return False
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            return False
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)  # only so that all of a column can be compared
        self._note("date" if len(text) == 10 else "datetime", text)
        if self._first is None or moment < self._first[0]:
            self._first = (moment, text)
        if self._last is None or moment > self._last[0]:
            self._last = (moment, text)
        return True

    def _add_string(self, text: str) -> None:
        self._note("string", text)
        length = len(text)
        if self._shortest < 0 or length < self._shortest:
            self._shortest = length
        self._longest = max(self._longest, length)

    def _note(self, kind: str, value: Any) -> None:
        self._kinds[kind] = self._kinds.get(kind, 0) + 1
        if len(self._distinct) <= DISTINCT_MAX:
            self._distinct.add(hash(value))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _shown(value: float, integers: bool) -> int | float:
    return int(value) if integers and abs(value) < _EXACT_INTEGER else value
