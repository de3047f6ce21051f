"""Key sets of running processes follow their files: a key is added or retired without a restart.

Each file is read every few seconds, beside the loop, and compared with what it held before. A set that is broken,
empty or half written changes nothing; the log says it once, and a gauge until it is mended. To rotate: add the new key
everywhere, let the signer sign with it (the last private key of its file), retire the old one once its last token is
over. Sets given inline in the environment stay as they are.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import structlog

from shared.keys import HmacKeys, read_again
from shared.settings import SettingsError, bounded_float, setting
from shared.telemetry.metrics import KEYS_READ_ANEW, KEYS_UNREADABLE
from shared.tokens import KeyRing

__all__ = ["KeyWatch", "KeyWatchSettings", "WatchedKeys"]

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class KeyWatchSettings:
    """Seconds end in `_s`."""

    keys_reload_s: float = setting(
        "FLEETWIRE_KEYS_RELOAD_S",
        3.0,
        help="Files with key sets are read anew this often.",
        parse=bounded_float(0.05, 3600),
    )


@dataclass(frozen=True, slots=True)
class WatchedKeys:
    """Keys and the file they are read from; None: they were given inline and stay. `signs`: a private key is needed."""

    name: str
    file: Path | None
    ring: KeyRing | HmacKeys
    signs: bool = False


class KeyWatch:
    """`run()` is the loop. `on_change()` is called after rings have changed."""

    def __init__(
        self,
        watched: Sequence[WatchedKeys],
        *,
        period_s: float,
        rand: Random,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._watched = [one for one in watched if one.file is not None]
        self._period_s = period_s
        self._rand = rand
        self._on_change = on_change
        self._seen: dict[str, bytes | None] = {}

    def __repr__(self) -> str:
        return f"KeyWatch({', '.join(f'{one.name}: {one.ring!r}' for one in self._watched)})"

    async def run(self) -> None:
        """Look now and again until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(self._period_s * self._rand.uniform(0.8, 1.2))

    async def look(self) -> None:
        """Read every file once."""
        changes = [await self._look_at(one) for one in self._watched]
        if any(changes):
            self._on_change()

    async def _look_at(self, watched: WatchedKeys) -> bool:
        assert watched.file is not None
        try:
            read, digest = await asyncio.to_thread(read_again, watched.ring, watched.file, variable=watched.name)
            if watched.signs and read.signing_key_id is None:
                raise SettingsError([f"{watched.name}: the set holds public keys only; a private one is needed"])
        except SettingsError as error:
            self._refuse(watched, str(error))
            return False
        KEYS_UNREADABLE.labels(watched.name).set(0)
        before = self._seen.get(watched.name, b"")
        self._seen[watched.name] = digest
        if before == digest:
            return False
        accepted = watched.ring.key_ids
        _adopt(watched.ring, read)
        gone = accepted - watched.ring.key_ids
        if before != b"":
            KEYS_READ_ANEW.labels(watched.name).inc()
            _log.info("keys were read anew", set=watched.name, keys=sorted(read.key_ids), retired=sorted(gone))
        return True

    def _refuse(self, watched: WatchedKeys, why: str) -> None:
        KEYS_UNREADABLE.labels(watched.name).set(1)
        if self._seen.get(watched.name, b"") is not None:
            _log.error("keys cannot be read; those known before go on", set=watched.name, reason=why)
        self._seen[watched.name] = None


def _adopt(ring: KeyRing | HmacKeys, read: KeyRing | HmacKeys) -> None:
    match ring, read:
        case (KeyRing(), KeyRing()):
            ring.adopt(read)
        case (HmacKeys(), HmacKeys()):
            ring.adopt(read)
        case _:
            raise AssertionError("keys are read as the kind that they are")
