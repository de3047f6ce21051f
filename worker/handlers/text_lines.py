"""Text from a stranger's file, line by line, never more than one bounded line in memory.

The encoding is taken from the byte-order mark, else guessed from the first 64 KiB (UTF-8, UTF-16 and UTF-32 without a
mark, else the first that fits of those the operator names) and reported; bytes that do not fit are replaced and
counted. A line above the bound is skipped without being held, and counted: a 50 MB line costs 50 MB of reading and
1 MiB of memory.
"""

import codecs
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from worker.handlers.contract import Unreadable, Unsupported
from worker.handlers.image_formats import name_of_unsupported, taken_format
from worker.handlers.inflated import open_inflated

__all__ = ["ENCODINGS", "SAMPLE_BYTES", "BoundedLines", "RecordTooLong", "guess_encoding", "open_lines"]

SAMPLE_BYTES: Final = 64 * 1024
ENCODINGS: Final = ("cp1252",)
_COMPRESSED: Final = (
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"7z\xbc\xaf\x27\x1c", "7-Zip"),
)
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ENDS: Final = ("\n", "\r")
_CONTROLS: Final = frozenset(range(32)) - frozenset(b"\t\n\r\f\x1a\x1b")


class RecordTooLong(ValueError):
    """One record (a quoted field may hold line breaks) goes on over more text than is allowed."""


def guess_encoding(sample: bytes, encodings: Sequence[str] = ENCODINGS) -> str:
    """A codec name for text that begins like this. Raises Unreadable, Unsupported for what is not text.

    `encodings` are tried in turn for what is not Unicode; the last is taken in any case.
    """
    for signature, name in _COMPRESSED:
        if sample.startswith(signature):
            raise Unsupported(f"the file is compressed with {name}; send it as it is, or as gzip")
    for mark, codec in _MARKS:
        if sample.startswith(mark):
            return codec
    zeros = sample.count(0)
    if zeros > len(sample) // 2 and len(sample) >= 4:
        for codec in ("utf-32-le", "utf-32-be"):
            if _fits(sample[: len(sample) // 4 * 4], codec):
                return codec
    if zeros > len(sample) // 4:
        even, odd = sample[0::2].count(0), sample[1::2].count(0)
        if even == 0 or odd == 0:
            return "utf-16-le" if even == 0 else "utf-16-be"
    if sum(byte in _CONTROLS for byte in sample) * 50 > len(sample):
        if sample.startswith(b"PK\x03\x04"):
            raise Unsupported("the file is a ZIP archive (an Excel workbook is one); save it as CSV")
        form = taken_format(sample, "") or name_of_unsupported(sample, "")
        raise Unreadable(f"the file is {form or 'binary'}, not text (it holds control characters)")
    for codec in ("utf-8", *encodings[:-1]):
        if _fits(sample, codec):
            return codec
    return encodings[-1]


def _fits(sample: bytes, codec: str) -> bool:
    """Whether the sample is text in this encoding; it may end within a character if the file goes on."""
    try:
        codecs.getincrementaldecoder(codec)("strict").decode(sample, final=len(sample) < SAMPLE_BYTES)
    except UnicodeError:
        return False
    return True


class BoundedLines:
    """An iterator of lines with their ends. `number` is the line last given; skipped ones are counted in `too_long`."""

    def __init__(self, text: io.TextIOWrapper, *, line_max: int, record_max: int) -> None:
        self._text = text
        self.line_max = line_max
        self._record_max = record_max
        self._record = 0
        self.number = 0
        self.too_long = 0
        self.undecodable = 0
        self.first_too_long: list[int] = []

    def begin_record(self) -> None:
        """What follows belongs to the next record."""
        self._record = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while True:
            line = self._text.readline(self.line_max + 1)
            if not line:
                raise StopIteration
            self.number += 1
            if len(line) > self.line_max and not line.endswith(_ENDS):
                self._skip_rest()
                continue
            if "\ufffd" in line:
                self.undecodable += 1
            self._record += len(line)
            if self._record > self._record_max:
                self._record = 0
                raise RecordTooLong(
                    f"a record is longer than {self._record_max} characters (a quote that is never closed?)"
                )
            return line

    def _skip_rest(self) -> None:
        self.too_long += 1
        if len(self.first_too_long) < 5:
            self.first_too_long.append(self.number)
        while (rest := self._text.readline(self.line_max)) and not rest.endswith(_ENDS):
            pass


def open_lines(
    path: Path, *, line_max: int, record_max: int, inflated_max: int, encodings: Sequence[str] = ENCODINGS
) -> tuple[BoundedLines, str, io.TextIOWrapper]:
    """Lines of a text file, gzip or not, its encoding, and the file to close.

    Raises Unreadable, Unsupported, TooLarge, also while lines are read.
    """
    with open_inflated(path, bound=inflated_max) as file:
        sample = file.read(SAMPLE_BYTES)
    if not sample.strip():
        raise Unreadable("the file is empty")
    encoding = guess_encoding(sample, encodings)
    text = io.TextIOWrapper(open_inflated(path, bound=inflated_max), encoding=encoding, errors="replace", newline="")
    return BoundedLines(text, line_max=line_max, record_max=record_max), encoding, text
