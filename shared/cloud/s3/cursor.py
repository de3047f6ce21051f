"""How far a listing has been told [pure], as text that any database holds and that has a bound."""

import re
from typing import Final
from urllib.parse import quote, unquote

__all__ = ["END", "after_of", "written"]

END: Final = "end"
"""All was told: what comes next is a listing from the beginning."""
_AFTER: Final = re.compile(r"upto\.([A-Za-z0-9%._~/-]{1,3072})", re.ASCII)


def written(key: str) -> str:
    """Told up to this key, and that what was not told up to there is gone is written down.

    It once began with `after.`, when that was left to the end of a run: who finds one of those begins anew.
    """
    return f"upto.{quote(key, safe='/', errors='surrogateescape')}"


def after_of(text: str) -> str | None:
    """The key; None for what is no such cursor."""
    found = _AFTER.fullmatch(text)
    return unquote(found[1], errors="surrogateescape") if found else None
