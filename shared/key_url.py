"""Keys that an issuer of tokens publishes at an address: fetched before anything is accepted, and followed after that.

An answer is kept as long as it says (within bounds), and asked for again with its ETag. A token that names a key which
is not known makes the set be fetched at once, but only every few seconds: anybody can invent key ids. While the address
does not answer, or answers with something else, the last good set goes on, up to an age; then none of it is accepted.
"""

import asyncio
import re
from collections.abc import Callable
from random import Random
from typing import Final
from urllib.parse import urlsplit

import httpx
import structlog

from shared.backoff import Backoff
from shared.clock import monotonic
from shared.key_url_settings import KeyUrlSettings
from shared.lifecycle import Stop
from shared.published_keys import read_published
from shared.telemetry.health import is_loopback
from shared.telemetry.metrics import KEYS_READ_ANEW, KEYS_UNREADABLE
from shared.tokens import KeyRing

__all__ = ["KeyUrl"]

_NAME: Final = "FLEETWIRE_TOKEN_KEYS_URL"
_SET_MAX_BYTES: Final = 64 * 1024
_ANSWER_S: Final = 5.0
_LOOK_S: Final = 2.0
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE | re.ASCII)

_log = structlog.get_logger(__name__)


class KeyUrl:
    """`first()` before tokens are taken, `run()` from then on, `look()` when a token names an unknown key."""

    def __init__(
        self,
        settings: KeyUrlSettings,
        ring: KeyRing,
        *,
        rand: Random,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """Without an address in the settings nothing is ever done. `on_change()` is called when keys came or went."""
        self._settings = settings
        self._url = settings.token_keys_url
        self._ring = ring
        self._rand = rand
        self._on_change = on_change
        self._clock = clock
        self._backoff = Backoff(rand, base=0.5, cap=min(30.0, settings.token_keys_refresh_s))
        self._client: httpx.AsyncClient | None = None
        self._etag: str | None = None
        self._good_at: float | None = None
        self._tried_at = float("-inf")
        self._pause_s = 0.0
        self._fetching: asyncio.Task[bool] | None = None
        self._is_good = True

    def __repr__(self) -> str:
        return f"KeyUrl({self._url or 'none'}, {'good' if self._is_good else 'not good'})"

    async def first(self, stop: Stop) -> bool:
        """Wait for the first good set, however long it takes to come. False when the process was asked to stop."""
        while self._url is not None and not await self._fetched():
            if await stop.wait_for(self._pause_s):
                return False
        return True

    async def run(self) -> None:
        """Fetch again and again, until cancelled."""
        while True:
            if self._url is None:
                await asyncio.Event().wait()
            await asyncio.sleep(self._pause_s)
            await self._fetched()

    async def look(self) -> bool:
        """A token names a key that is not known. Whether the set has been fetched just now, so that it is worth
        another look."""
        if self._url is None:
            return False
        if self._fetching is None and self._clock() - self._tried_at < self._settings.token_keys_unknown_s:
            return False
        try:
            async with asyncio.timeout(_LOOK_S):
                return await self._fetched()
        except TimeoutError:
            return False

    async def aclose(self) -> None:
        """End what is under way."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()

    async def _fetched(self) -> bool:
        """One fetch at a time: whoever comes while one is under way shares it."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch(), name="key set")
            self._fetching.add_done_callback(lambda _: setattr(self, "_fetching", None))
        return await asyncio.shield(self._fetching)

    async def _fetch(self) -> bool:
        self._tried_at = self._clock()
        try:
            async with asyncio.timeout(_ANSWER_S):
                age_s = await self._ask()
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            self._failed(f"{type(error).__name__}: {error}" if isinstance(error, ValueError) else type(error).__name__)
            return False
        self._good_at = self._clock()
        if not self._is_good:
            _log.info("key set is there again", url=self._url)
        self._is_good = True
        KEYS_UNREADABLE.labels(_NAME).set(0)
        self._backoff.reset()
        usual = self._settings.token_keys_refresh_s
        self._pause_s = min(max(age_s if age_s is not None else usual, usual / 5), usual * 12)
        self._pause_s *= self._rand.uniform(0.8, 1.0)
        return True

    async def _ask(self) -> float | None:
        """Take what is published. For how long the answer says that it may be kept."""
        assert self._url is not None
        # Not compressed: what a few bytes may unfold to would be known too late.
        headers = {"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"}
        if self._etag is not None:
            headers["If-None-Match"] = self._etag
        async with self._opened().stream("GET", self._url, headers=headers) as answer:
            if answer.status_code not in (200, 304):
                raise ValueError(f"the address answered HTTP {answer.status_code}")
            if answer.status_code == 200:
                if answer.headers.get("content-encoding", "identity") != "identity":
                    raise ValueError("key set came in an encoding that was not asked for")
                body = bytearray()
                async for chunk in answer.aiter_raw(16384):
                    body += chunk
                    if len(body) > _SET_MAX_BYTES:
                        raise ValueError(f"key set is larger than {_SET_MAX_BYTES} bytes")
                self._take(read_published(body.decode("utf-8")))
                self._etag = answer.headers.get("etag")
        found = _MAX_AGE.search(answer.headers.get("cache-control", ""))
        return float(found[1]) if found else None

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            # Out of the house a proxy may be the only way; to this machine there is none.
            direct = is_loopback(urlsplit(self._url or "").hostname or "")
            self._client = httpx.AsyncClient(follow_redirects=False, timeout=_ANSWER_S, trust_env=not direct)
        return self._client

    def _take(self, published: KeyRing) -> None:
        before, known = self._ring.key_ids, self._good_at is not None
        if self._ring.adopt_published(published):
            now = self._ring.key_ids
            if known:
                KEYS_READ_ANEW.labels(_NAME).inc()
            _log.info("keys were taken", set=_NAME, added=sorted(now - before), retired=sorted(before - now))
            self._on_change()

    def _failed(self, why: str) -> None:
        self._pause_s = self._backoff.next()
        KEYS_UNREADABLE.labels(_NAME).set(1)
        if self._is_good:
            _log.error("key set cannot be fetched; what was known before goes on", url=self._url, reason=why)
        self._is_good = False
        if self._good_at is not None and self._clock() - self._good_at > self._settings.token_keys_age_s:
            self._good_at = self._etag = None
            if self._ring.adopt_published(KeyRing({}, frozenset())):
                _log.error("key set is too old: none of its keys is accepted any more", url=self._url)
                self._on_change()
