"""Which statements a process sent to Postgres, read from the server's own log.

Needs a Postgres that runs with `LOGGING`: it writes one entry per execution, with the time and who asked. Nothing
stands between the process and Postgres for it, and nothing that a client does can hide from it. Pure.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, NamedTuple

__all__ = ["LOGGING", "Statement", "count_by_name", "read_log"]

LOGGING: Final = {
    "log_statement": "all",
    "log_line_prefix": "%n %a ",
    "log_parameter_max_length": "0",
    "log_duration": "off",
}
"""Server settings; `%n` is the time in Unix seconds with milliseconds, `%a` the application."""

_ENTRY: Final = re.compile(r"(\d+\.\d+) (\S*) ?LOG:  (?:statement|execute [^:]*): (.*)", re.DOTALL)
_SPACE: Final = re.compile(r"\s+")


class Statement(NamedTuple):
    """One execution."""

    at: float
    application: str
    text: str


def read_log(lines: Iterable[str]) -> Iterator[Statement]:
    """All executions. Lines that go on with a tab belong to the entry before them; other entries are passed over."""
    entry = ""
    for line in lines:
        if line.startswith("\t"):
            entry += line
            continue
        yield from _statement(entry)
        entry = line
    yield from _statement(entry)


def _statement(entry: str) -> Iterator[Statement]:
    found = _ENTRY.fullmatch(entry)
    if found is not None:
        yield Statement(float(found[1]), found[2], _plain(found[3]))


def count_by_name(found: Iterable[Statement], named: Mapping[str, str]) -> dict[str, int]:
    """How many of each, most frequent first. `named` are the texts that have a name; others go by their first words."""
    names = {_plain(text): name for name, text in named.items()}
    counts = Counter(names.get(statement.text) or statement.text[:40] for statement in found)
    return dict(counts.most_common())


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip()
