"""Tables: CSV or JSON lines in, gzip or not, a typed summary of every column out.

The file is read once, in constant memory for any length: lines, records, cells, columns and everything kept about a
column are bounded. Rows that cannot be used (too long, broken quotes, not JSON) are counted, and the first few are
named; the rest of the table is still summed up. Only a file without a single usable row is refused.
"""

import csv
import zlib
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import PurePosixPath
from typing import Any, Final

import orjson

from worker.handlers.column_summary import Column
from worker.handlers.contract import Answer, ResponseFile, Task, Unreadable
from worker.handlers.csv_dialect import Dialect, column_names, is_header, sniff_dialect
from worker.handlers.inflated import is_gzip, open_inflated
from worker.handlers.text_lines import ENCODINGS, BoundedLines, RecordTooLong, open_lines

__all__ = ["TableHandler"]

_JSON_EXTENSIONS: Final = frozenset({".jsonl", ".ndjson"})
_CSV_EXTENSIONS: Final = frozenset({".csv", ".tsv"})
_PLAIN_EXTENSIONS: Final = _CSV_EXTENSIONS | _JSON_EXTENSIONS
_GZIP: Final = ".gz"
_CELL_MAX: Final = 128 * 1024
_KEY_MAX: Final = 200
_SNIFF_LINES: Final = 40
_SNIFF_BYTES: Final = 1024
_PROBLEMS_MAX: Final = 10
_BEGIN_BYTES: Final = 16 * 1024


class TableHandler:
    """Options: table.max_columns, table.max_line (characters), table.max_inflated_mb, table.encodings."""

    kind = "table"
    extensions = _PLAIN_EXTENSIONS | {extension + _GZIP for extension in _PLAIN_EXTENSIONS}

    def recognises(self, head: bytes) -> bool:
        """A first line that is a JSON object; CSV has no signature."""
        if is_gzip(head):
            head = _begin_of_gzip(head)
        line, newline, _ = head.partition(b"\n")
        return bool(newline) and _is_object(line.strip())

    def run(self, task: Task) -> Answer:
        """summary.json, or a refusal that names what is wrong."""
        line_max = task.option("table.max_line", 1024 * 1024)
        lines, encoding, text = _open(task, line_max, record_max=4 * line_max)
        with text:
            extension = PurePosixPath(task.name.lower().removesuffix(_GZIP)).suffix
            table = _Table(lines, task.option("table.max_columns", 1000))
            if extension in _CSV_EXTENSIONS or (extension not in _JSON_EXTENSIONS and not _begins_like_json(task)):
                dialect = _sniff(task, line_max)
                header = _read_csv(table, dialect)
                form: dict[str, Any] = {"format": "CSV", "delimiter": dialect.delimiter, "header": header}
                form |= _unusual(dialect)
            else:
                form = {"format": "JSON lines"}
                _read_json_lines(table)
        if not table.rows and not table.columns:
            raise Unreadable(f"the table holds no usable row: {table.first_problem(line_max)}")
        summary = {"name": task.name, **form, "encoding": encoding.removesuffix("-sig"), **table.finish()}
        (task.output / "summary.json").write_bytes(orjson.dumps(summary, option=orjson.OPT_INDENT_2))
        brief = {name: summary[name] for name in ("format", "rows", "bad_rows")} | {"columns": len(table.columns)}
        return Answer("processed", None, (ResponseFile("summary.json", "application/json"),), brief)


class _Table:
    """What is known so far: columns in order, rows and everything that was wrong."""

    def __init__(self, lines: BoundedLines, max_columns: int) -> None:
        self.lines = lines
        self.max_columns = max(1, max_columns)
        self.columns: list[Column] = []
        self.rows = 0
        self.short = 0
        self.long = 0
        self.blank = 0
        self.malformed = 0
        self.cells_not_summarised = 0
        self.problems: list[dict[str, Any]] = []

    def new_column(self, name: str, *, wide: bool, decimal_comma: bool = False) -> Column:
        """One more column. Wide tables get smaller sketches, so that all of them together stay bounded."""
        column = Column(name, sketch_capacity=128 if wide else 1024, decimal_comma=decimal_comma)
        self.columns.append(column)
        return column

    def bad_row(self, problem: str) -> None:
        """A row that is not used."""
        self.malformed += 1
        if len(self.problems) < _PROBLEMS_MAX:
            self.problems.append({"line": self.lines.number, "problem": problem[:200]})

    def first_problem(self, line_max: int) -> str:
        """The first thing that was wrong, for a table without rows."""
        if self.lines.first_too_long:
            return f"line {self.lines.first_too_long[0]} is longer than {line_max} characters"
        if self.problems:
            return f"line {self.problems[0]['line']}: {self.problems[0]['problem']}"
        return "every line is blank"

    def finish(self) -> dict[str, Any]:
        """The summary as JSON values."""
        too_long = [{"line": n, "problem": "line too long"} for n in self.lines.first_too_long]
        return {
            "rows": self.rows,
            "bad_rows": {"too_long": self.lines.too_long, "malformed": self.malformed},
            "ragged_rows": {"short": self.short, "long": self.long},
            "blank_lines": self.blank,
            "undecodable_lines": self.lines.undecodable,
            "cells_not_summarised": self.cells_not_summarised,
            "problems": sorted(self.problems + too_long, key=lambda p: int(p["line"]))[:_PROBLEMS_MAX],
            "columns": [column.finish(self.rows) for column in self.columns],
        }


def _open(task: Task, line_max: int, *, record_max: int) -> tuple[BoundedLines, str, TextIOWrapper]:
    encodings = [name for name in task.option("table.encodings", "").replace(",", " ").split() if name]
    return open_lines(
        task.path,
        line_max=line_max,
        record_max=record_max,
        inflated_max=_inflated_max(task),
        encodings=encodings or ENCODINGS,
    )


def _inflated_max(task: Task) -> int:
    return max(1, task.option("table.max_inflated_mb", 1024)) * 1_000_000


def _sniff(task: Task, line_max: int) -> Dialect:
    lines, _, text = _open(task, line_max, record_max=line_max * _SNIFF_LINES + _SNIFF_LINES)
    sample: list[str] = []
    length = 0
    with text:
        for line in lines:
            sample.append(line)
            length += len(line)
            if len(sample) >= _SNIFF_LINES or length > line_max:
                break
    return sniff_dialect(sample)


def _unusual(dialect: Dialect) -> dict[str, Any]:
    """What of the dialect is worth a word."""
    said: dict[str, Any] = {}
    if dialect.quote != '"':
        said["quote"] = dialect.quote
    if dialect.escape is not None:
        said["escape"] = dialect.escape
    if dialect.skip:
        said["lines_before_table"] = dialect.skip
    return said


def _read_csv(table: _Table, dialect: Dialect) -> bool:
    """Take every row in; whether the first one was a header."""
    header: bool | None = None
    for row in _csv_rows(table, dialect):
        if header is None:
            header = _begin_table(table, row, dialect)
            if header:
                continue
        table.rows += 1
        width = len(table.columns)
        if len(row) < width:
            table.short += 1
        elif len(row) > width:
            table.cells_not_summarised += len(row) - width
            if width < table.max_columns:
                table.long += 1
        for column, cell in zip(table.columns, row, strict=False):
            column.add_text(cell)
    return bool(header)


def _begin_table(table: _Table, row: list[str], dialect: Dialect) -> bool:
    """Make the columns from the first row; whether it was a header."""
    header = is_header(row)
    names = column_names(row if header else [""] * len(row))[: table.max_columns]
    for name in names:
        table.new_column(name, wide=len(names) > 64, decimal_comma=dialect.decimal_comma)
    return header


def _csv_rows(table: _Table, dialect: Dialect) -> Iterator[list[str]]:
    csv.field_size_limit(_CELL_MAX)
    for _ in range(dialect.skip):
        next(table.lines, None)
    reader = dialect.rows(table.lines)
    while True:
        table.lines.begin_record()
        try:
            row = next(reader)
        except StopIteration:
            return
        except (csv.Error, RecordTooLong) as error:
            # The reader forgets the broken record and begins anew with the next line.
            table.bad_row(str(error))
            continue
        if row and (len(row) > 1 or row[0].strip()):
            yield row
        else:
            table.blank += 1


def _read_json_lines(table: _Table) -> None:
    columns: dict[str, Column] = {}
    for line in table.lines:
        table.lines.begin_record()
        stripped = line.strip()
        if not stripped:
            table.blank += 1
            continue
        try:
            row = orjson.loads(stripped)
        except orjson.JSONDecodeError as error:
            table.bad_row(f"not JSON: {error.msg}")
            continue
        if not isinstance(row, dict):
            table.bad_row("not a JSON object")
            continue
        table.rows += 1
        for long_key, value in row.items():
            key = long_key[:_KEY_MAX]
            column = columns.get(key)
            if column is None:
                if len(columns) >= table.max_columns:
                    table.cells_not_summarised += 1
                    continue
                name = column_names([key])[0]
                column = columns[key] = table.new_column(name, wide=len(columns) >= 64)
            column.add_value(value)


def _begins_like_json(task: Task) -> bool:
    with open_inflated(task.path, bound=_inflated_max(task)) as file:
        return file.read(_SNIFF_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"{")


def _begin_of_gzip(head: bytes) -> bytes:
    try:
        return zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, _BEGIN_BYTES)
    except zlib.error:
        return b""


def _is_object(line: bytes) -> bool:
    if not line.startswith(b"{"):
        return False
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False
