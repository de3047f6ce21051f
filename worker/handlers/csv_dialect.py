"""Which delimiter a CSV file uses and whether its first row is a header, from its first lines. [pure]

The delimiter is the one under which most of the first rows have the same number of cells, more than one. The first
row is a header when none of its cells looks like data: a number, a time, a truth value or nothing at all.
"""

import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["Dialect", "column_names", "is_header", "sniff_dialect"]

_DELIMITERS: Final = (",", ";", "\t", "|")
_LOOKS_LIKE_DATA: Final = re.compile(
    r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?%?|\d{4}-\d\d-\d\d.*|true|false|yes|no|null|none|na|n/a",
    re.ASCII | re.IGNORECASE,
)
_NAME_MAX_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """A delimiter; the quote is always `"`, doubled inside. With a semicolon, numbers may have a decimal comma."""

    delimiter: str

    @property
    def decimal_comma(self) -> bool:
        """Where the comma separates decimals it cannot separate cells."""
        return self.delimiter == ";"


def sniff_dialect(lines: Sequence[str]) -> Dialect:
    """The dialect of a file that begins with these lines (whole ones). A single column counts as comma-separated."""
    best: tuple[float, int] = (0.0, 0)
    chosen = ","
    for delimiter in _DELIMITERS:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:
            continue
        wide = Counter(width for width in widths if width > 1)
        if not wide:
            continue
        width, rows = max(wide.items(), key=lambda item: (item[1], item[0]))
        score = (round(rows / len(widths), 2), width)
        if score > best:
            best, chosen = score, delimiter
    return Dialect(chosen)


def is_header(row: Sequence[str]) -> bool:
    """Whether a first row names the columns."""
    cells = [cell.strip() for cell in row]
    return any(cells) and not any(_LOOKS_LIKE_DATA.fullmatch(cell) for cell in cells)


def column_names(row: Sequence[str]) -> list[str]:
    """Printable, bounded and distinct names; an empty one is called by its place."""
    names: list[str] = []
    taken: set[str] = set()
    for place, cell in enumerate(row, 1):
        name = "".join(c for c in cell if c.isprintable()).strip()[:_NAME_MAX_CHARS] or f"column_{place}"
        if name in taken:
            name = f"{name}_{place}"
        taken.add(name)
        names.append(name)
    return names
