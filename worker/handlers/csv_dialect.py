"""How a CSV file is written and whether its first row is a header, from its first lines. [pure]

The delimiter is the one under which most of the first rows have the same number of cells, more than one. The first
row is a header when none of its cells looks like data: a number, a time, a truth value or nothing at all. Spreadsheets
put `sep=;` first, instruments put remarks behind a hash: neither is a row. A line that begins with a hash and has the
width of the table is its header.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["Dialect", "column_names", "is_header", "sniff_dialect"]

_DELIMITERS: Final = (",", ";", "\t", "|")
_LOOKS_LIKE_DATA: Final = re.compile(
    r"[+-]?[\d.,]*\d[\d.,]*(?:[eE][+-]?\d+)?%?|\d{4}-\d\d-\d\d.*|true|false|yes|no|null|none|na|n/a",
    re.ASCII | re.IGNORECASE,
)
_NAME_MAX_CHARS: Final = 200
_SEP_LINE: Final = re.compile(r"\"?sep=(.)\"?\s*", re.IGNORECASE)
_SINGLE_QUOTED: Final = re.compile(r"(?:^|[,;\t|])\s*'[^']*'\s*(?=[,;\t|]|$)")
# A quote behind a backslash where no cell ends: else it is a cell that ends with a backslash, such as a Windows folder.
_ESCAPED_QUOTE: Final = re.compile(r"\\[\"'](?!\s*(?:[,;\t|]|$))")


@dataclass(frozen=True, slots=True)
class Dialect:
    """How cells are parted and quoted; a quote inside is doubled, or comes after `escape`. `skip` lines come before.

    With a semicolon, numbers may have a decimal comma.
    """

    delimiter: str
    quote: str = '"'
    escape: str | None = None
    blanks_after_delimiter: bool = False
    skip: int = 0

    @property
    def decimal_comma(self) -> bool:
        """Where the comma separates decimals it cannot separate cells."""
        return self.delimiter == ";"

    def rows(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """The rows of these lines; what is wrong with one raises csv.Error, and the next call goes on."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            skipinitialspace=self.blanks_after_delimiter,
        )


def sniff_dialect(lines: Sequence[str]) -> Dialect:
    """The dialect of a file that begins with these lines (whole ones). A single column counts as comma-separated."""
    told = _SEP_LINE.fullmatch(lines[0]) if lines else None
    first = 1 if told else 0
    remarks = 0
    while first + remarks < len(lines) and lines[first + remarks].startswith("#"):
        remarks += 1
    body = lines[first + remarks :]
    quote = "'" if _is_single_quoted(body) else '"'
    written = Dialect(
        ",",
        quote=quote,
        escape="\\" if any(f"\\{quote}" in line and _ESCAPED_QUOTE.search(line) for line in body) else None,
        blanks_after_delimiter=any(re.search(rf"[,;\t|] +{quote}", line) for line in body),
    )
    delimiters = (told[1],) if told else _DELIMITERS
    best: tuple[float, int] = (0.0, 0)
    chosen, wide = replace(written, delimiter=delimiters[0]), 0
    for delimiter in delimiters:
        tried = replace(written, delimiter=delimiter)
        score, width = _evenness(tried, body)
        if (score, width) > best:
            best, chosen, wide = (score, width), tried, width
    if remarks and wide and _evenness(chosen, lines[first + remarks - 1 : first + remarks])[1] == wide:
        remarks -= 1  # the last of them is as wide as the table: its header
    elif not wide:
        remarks = 0  # a single column may well begin with a hash
    return replace(chosen, skip=first + remarks)


def _evenness(dialect: Dialect, lines: Sequence[str]) -> tuple[float, int]:
    """Which part of the rows has the most frequent width above one, and that width."""
    try:
        widths = [len(row) for row in dialect.rows(lines) if row]
    except csv.Error:
        return 0.0, 0
    wide = Counter(width for width in widths if width > 1)
    if not wide:
        return 0.0, 0
    width, rows = max(wide.items(), key=lambda item: (item[1], item[0]))
    return round(rows / len(widths), 2), width


def _is_single_quoted(lines: Sequence[str]) -> bool:
    """Whether most lines hold a cell in single quotes, and none a double quote."""
    quoted = sum(_SINGLE_QUOTED.search(line) is not None for line in lines)
    return quoted * 2 > len(lines) and not any('"' in line for line in lines)


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
