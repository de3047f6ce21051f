"""Keeps the live socket's credential from running out: asks for a newer one in time and sends it in band.

What goes wrong here ends nothing: the old credential goes on, and when it is over the hub's close (4200) says what to
do.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress

from device.credential import Credential
from device.errors import DeviceError
from device.renewal import Renewal
from device.session import Session
from device.targets import Targets
from device.timing import Timing
from device.wire import Wire
from shared.clock import monotonic, wall

__all__ = ["CredentialKeeper"]

_log = logging.getLogger("fleetwire.device")


class CredentialKeeper:
    """`run()` beside the socket; it is told what the hub says of the credential in use."""

    def __init__(
        self,
        session: Session,
        credential: Credential,
        targets: Targets,
        renewal: Renewal,
        *,
        wires: Mapping[int, Wire],
        timing: Timing,
    ) -> None:
        self._session = session
        self._credential = credential
        self._targets = targets
        self._renewal = renewal
        self._wires = wires
        self._timing = timing
        self._news = asyncio.Event()
        self._offered: str | None = None
        self._refused: str | None = None

    @property
    def expires_at(self) -> float | None:
        """When the credential of the live socket ends, if that is known (Unix seconds)."""
        return self._renewal.expires_at

    def on_credential(self, expires_at: float | None) -> None:
        """The newest live socket holds one that ends then."""
        self._renewal.on_credential(expires_at, wall())
        self._news.set()

    def on_refused(self) -> None:
        """The hub does not take what it was sent; the old one lives."""
        self._refused = self._offered

    async def run(self) -> None:
        """Renew whenever it is time, until cancelled."""
        while True:
            due = self._renewal.due(monotonic(), wall()) if self._session.live else None
            wait_s = float("inf") if due is None else due - monotonic()
            if wait_s <= 0:
                await self._renew()
                continue
            with suppress(TimeoutError):
                # No timer is trusted for long; being some seconds late after a suspend costs a reconnect at most.
                await asyncio.wait_for(self._news.wait(), min(wait_s, 30 * self._timing.tick_max_s))
            self._news.clear()

    async def _renew(self) -> None:
        self._renewal.on_failed(monotonic())  # until the hub says that it holds
        wire, ends_at = self._wires.get(self._session.newest or 0), self._renewal.expires_at
        if wire is None or ends_at is None:
            return
        try:
            token = await self._credential.newer(ends_at, refused=self._refused)
            if token is not None:
                bearer = await self._targets.newer_bearer(token, is_ticket=wire.is_ticket)
                self._offered = token
                wire.renew(bearer)
        except DeviceError as error:
            _log.info("the socket's token cannot be renewed yet: %s", type(error).__name__)
