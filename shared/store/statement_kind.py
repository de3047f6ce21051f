"""Whether a statement only reads, told from its text: what only reads may be repeated, cancelled and asked of a copy.

In doubt it writes. A read is a SELECT, or a WITH in front of one, that holds no word with which a statement changes or
locks rows, and calls nothing that acts.
"""

import re
from functools import lru_cache
from typing import Final

__all__ = ["is_read"]

_COMMENT: Final = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)
_TEXT: Final = re.compile(r"'(?:[^']|'')*'")
_BEGINS: Final = re.compile(r"\s*(?:SELECT|WITH|SHOW)\b", re.IGNORECASE)
_ACTS: Final = re.compile(
    r"\b(?:INSERT|UPDATE|DELETE|MERGE|TRUNCATE|INTO|CALL|COPY|SHARE|nextval|setval|set_config|lo_\w+"
    r"|pg_\w*(?:lock|notify|promote|reload|terminate|cancel|switch|signal)\w*)\b",
    re.IGNORECASE,
)


@lru_cache(maxsize=1024)
def is_read(statement: str) -> bool:
    """True only when it surely changes and locks nothing."""
    bare = _TEXT.sub("''", _COMMENT.sub(" ", statement))
    return _BEGINS.match(bare) is not None and _ACTS.search(bare) is None
