"""Where the listing of a partition stands [pure], as text that any database holds and that has a bound.

`run.ID.KEY`: a run over everything, told up to this key; `known.NAME`: all was told up to what has this name.
"""

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["Cursor"]

_KNOWN: Final = re.compile(r"known\.([0-9a-f]{1,32})", re.ASCII)
_RUN: Final = re.compile(r"run\.([0-9a-f]{1,32})\.([A-Za-z0-9%._~/-]{1,3072})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Cursor:
    """Either `name`, or `run_id` and `key`."""

    name: str | None = None
    run_id: str = ""
    key: str = ""

    def written(self) -> str:
        """As it is kept."""
        if self.name is not None:
            return f"known.{self.name}"
        return f"run.{self.run_id}.{quote(self.key, safe='/', errors='surrogateescape')}"

    @classmethod
    def read(cls, text: str) -> "Cursor | None":
        """None for what is none."""
        if found := _KNOWN.fullmatch(text):
            return cls(name=found[1])
        if found := _RUN.fullmatch(text):
            return cls(run_id=found[1], key=unquote(found[2], errors="surrogateescape"))
        return None
