"""What viewers are shown, as keys and values; and what of it is new [pure].

One flat map, such as `hub/hub-1` or `dev/truck-7`, each value encoded once for all viewers. A viewer is sent what has
changed since it was sent something, so a slow one skips states in between and never waits for an old one.
"""

from collections.abc import Iterable, Mapping
from typing import Final

import orjson

__all__ = ["DEVICE", "State", "changes", "encoded", "frame", "rounded"]

DEVICE: Final = "dev/"
"""What keys of single devices begin with: they go to those who look at that device."""

State = Mapping[str, bytes]


def encoded(values: Mapping[str, object]) -> dict[str, bytes]:
    """The values as JSON."""
    return {key: orjson.dumps(value) for key, value in values.items()}


def changes(before: State, after: State) -> dict[str, bytes | None]:
    """What to set, and what to drop (None), to come from one to the other."""
    found: dict[str, bytes | None] = {key: value for key, value in after.items() if before.get(key) != value}
    for key in before.keys() - after.keys():
        found[key] = None
    return found


def frame(changed: Mapping[str, bytes | None], *, is_whole: bool = False) -> bytes:
    """The changes as a server-sent event; `whole` replaces what the viewer has."""
    put = b",".join([orjson.dumps(key) + b":" + value for key, value in changed.items() if value is not None])
    drop = orjson.dumps([key for key, value in changed.items() if value is None])
    return b'event: %b\ndata: {"set":{%b},"drop":%b}\n\n' % (b"whole" if is_whole else b"patch", put, drop)


def rounded(values: Iterable[float | None], scale: float = 1000.0) -> list[float | None]:
    """Seconds as milliseconds with one decimal, or whatever the scale makes of them."""
    return [None if value is None else round(value * scale, 1) for value in values]
