"""The token: given once, or brought by a callback when the one in use is over.

However many tasks find it refused at the same time, the callback is asked once.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from inspect import isawaitable

from device.errors import ConfigurationError, TokenRefused, Unreachable
from device.expiry import connection_expiry

__all__ = ["Credential", "TokenSource", "check_token"]

TokenSource = str | Callable[[], str | Awaitable[str]]

_log = logging.getLogger("fleetwire.device")
_TOKEN_MAX = 8192


class Credential:
    """The token in use. A callback may be sync (run in a thread) or async, and has a deadline."""

    def __init__(self, source: TokenSource, *, deadline_s: float) -> None:
        self._source = source
        self._deadline_s = deadline_s
        self._token: str | None = check_token(source) if isinstance(source, str) else None
        self._asking = asyncio.Lock()

    @property
    def renewable(self) -> bool:
        """Whether there is a callback."""
        return not isinstance(self._source, str)

    async def token(self) -> str:
        """The token to use now. Raises Unreachable when the callback fails."""
        if self._token is None:
            return await self.renewed(None)
        return self._token

    async def renewed(self, refused: str | None) -> str:
        """A token other than the refused one. Raises TokenRefused when there is no callback, Unreachable when it
        fails."""
        async with self._asking:
            if self._token is not None and self._token != refused:
                return self._token
            if isinstance(self._source, str):
                raise TokenRefused
            try:
                async with asyncio.timeout(self._deadline_s):
                    answer = await asyncio.to_thread(self._source)
                    token = await answer if isawaitable(answer) else answer
                self._token = check_token(token)
            except Exception as error:
                # The callback is the application's: whatever it raises is a try that failed, not the end of the client.
                _log.warning("token callback failed: %s", type(error).__name__)
                raise Unreachable(f"token callback failed: {type(error).__name__}") from error
            return self._token

    async def newer(self, than: float, *, refused: str | None) -> str | None:
        """A token that holds longer than `than` (Unix seconds) and is not the refused one: the one in use, or what the
        callback brings; None when there is none yet. Raises Unreachable when the callback fails."""
        token = await self.token()
        if token != refused and _outlives(token, than):
            return token
        brought = await self.renewed(token)
        # One that does not say until when it holds is worth a try when it is another one.
        newer = _outlives(brought, than) or (connection_expiry(brought) is None and brought != token)
        return brought if newer and brought != refused else None

    def __repr__(self) -> str:
        return f"Credential({'fixed' if isinstance(self._source, str) else 'callback'})"


def _outlives(token: str, than: float) -> bool:
    expiry = connection_expiry(token)
    return expiry is not None and expiry > than + 1.0


def check_token(token: object) -> str:
    """The token itself when it can stand in a header. Raises ConfigurationError, which does not show it."""
    if not isinstance(token, str) or not 0 < len(token) <= _TOKEN_MAX or not token.isascii() or not token.isprintable():
        raise ConfigurationError(f"token must be printable text of at most {_TOKEN_MAX} characters")
    if " " in token:
        raise ConfigurationError("token must not contain blanks; give only the token, without 'Bearer'")
    return token
