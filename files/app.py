"""The files gateway as a process: built here, and left here from top to bottom."""

import asyncio
import os
import sys
from random import SystemRandom

import structlog

from files.gateway import Gateway, Limits
from files.settings import Settings
from files.transfers import Transfers
from shared import lifecycle
from shared.asgi_server import AsgiServer, PortBusy
from shared.bounded_http import bounded_http
from shared.cloud.errors import CloudError, Misconfigured
from shared.cloud.local import LocalStore
from shared.cloud.stores import open_stores
from shared.key_watch import KeyWatch, WatchedKeys
from shared.keys import HmacKeys
from shared.settings import SettingsError, load
from shared.signed_urls import host_of
from shared.telemetry import logs
from shared.telemetry.health import OpsServer, Readiness

_CHECK_S = 5.0

_log = structlog.get_logger(__name__)


class _StoreCheck:
    """Looks at the store now and then; `problem` says why it cannot be used."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self.problem: str | None = None

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                await self._store.check()
                self.problem = None
            except CloudError as error:
                if self.problem is None:
                    _log.error("store unusable", detail=str(error))
                self.problem = str(error)
            await asyncio.sleep(_CHECK_S)


async def serve(settings: Settings, keys: HmacKeys, stop: lifecycle.Stop) -> int:
    """Run until `stop`: not ready at once, open transfers finish or are ended, drafts are removed, exit."""
    store = settings.open_local_store()
    removed = await store.remove_leftovers(older_than_s=settings.draft_age_s)
    transfers = Transfers(settings.transfers_max)
    limits = Limits(
        upload_max_bytes=settings.upload_max_bytes,
        stall_s=settings.stall_s,
        transfer_min_s=settings.transfer_min_s,
        bytes_per_s_min=settings.bytes_per_s_min,
        transfer_max_s=settings.transfer_max_s,
    )
    elsewhere = open_stores(settings)
    gateway = Gateway(store, keys, transfers, limits, {one.name: one for one in elsewhere})
    http = bounded_http(connections_max=settings.connections_max, head_s=settings.head_s, stall_s=settings.stall_s)
    server = AsgiServer(
        gateway, settings.host, settings.port, setting="FLEETWIRE_FILES_PORT", close_s=2.0, http=http, ws="none"
    )
    store_check = _StoreCheck(store)

    def readiness() -> Readiness:
        reasons = [store_check.problem] if store_check.problem else []
        if transfers.leaving:
            reasons.append("leaving")
        return Readiness(not reasons, tuple(reasons), {"transfers": len(transfers)})

    ops = OpsServer(
        settings.ops_host, settings.ops_port, process="files", readiness=readiness, token=settings.ops_token
    )
    watched = WatchedKeys("FLEETWIRE_FILES_KEYS", settings.files_keys_file, keys)
    key_watch = KeyWatch([watched], period_s=settings.keys_reload_s, rand=SystemRandom())
    beside = {
        asyncio.create_task(store_check.run(), name="store check"),
        asyncio.create_task(key_watch.run(), name="key watch"),
    }
    try:
        await server.start()
        gateway.host = host_of(settings.url or f"http://{_in_url(settings.host)}:{server.port}")
        await ops.start()
        _log.info(
            "serving",
            port=server.port,
            ops_port=ops.port,
            host=gateway.host.decode(),
            root=str(settings.cloud_root),
            drafts_removed=removed,
        )
        await stop.wait()
        # Not ready is said, and new transfers are refused, while those that run go on.
        await transfers.leave(settings.leave_s)
    finally:
        await lifecycle.cancelled(beside)
        await server.close()
        await ops.close()
        await elsewhere.close()
        await store.close()
    return 0


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def main() -> int:
    """The process: settings from the environment, exit status for the shell."""
    try:
        settings = load(Settings, os.environ)
        keys = settings.files_hmac_keys()
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - there is no log yet
        return 2
    logs.configure("files", settings.log_level, json=settings.log_format == "json")

    async def run(stop: lifecycle.Stop) -> int:
        try:
            return await serve(settings, keys, stop)
        except (Misconfigured, PortBusy, SettingsError) as error:
            _log.error("cannot start", detail=str(error))
            return 2

    return lifecycle.run(run, environ=os.environ)
