"""A whole Fleetwire between an emulated Microsoft Graph, an emulated Google Drive and an S3 of its own process.

Requests are put there as people do; where responses go is the run's choice. Providers call the API of the machine as
they would from outside, and may be made to lose, repeat and reorder those calls; for S3 the run itself is the bridge.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import httpx

from loadtests.emulators.drive import DriveEmulator, running_drive
from loadtests.emulators.graph import DRIVE, GraphEmulator, running_graph
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from loadtests.machine import Machine, running_machine
from loadtests.ports import free_port
from loadtests.s3_process import KEY, S3Server, running_s3
from shared.cloud.http import HttpClient
from shared.cloud.s3.client import S3Client
from shared.cloud.s3.provider import S3Provider
from shared.hash_slots import PARTITIONS

__all__ = ["CloudSite", "running_cloud_site"]

BUCKET: Final = "depot"
PREFIX: Final = "fleet"
S3_SECRET: Final = "a-secret-of-the-bucket-0123456789"
_WAIT_S: Final = 5


@dataclass
class CloudSite:
    """What runs. `fleet` is the id of the folder at Drive that is watched."""

    machine: Machine
    graph: GraphEmulator
    drive: DriveEmulator
    fleet: str
    s3: S3Provider | None
    http: httpx.AsyncClient
    _positions: dict[str, str] = field(default_factory=dict)

    async def register(self, *device_ids: str) -> None:
        """Make devices known."""
        headers = self._bearer("olga", "operator")
        for device_id in device_ids:
            answer = await self.http.put(f"/api/v1/devices/{device_id}", json={"class": "truck"}, headers=headers)
            answer.raise_for_status()

    def put_at_drive(self, path: str, content: bytes) -> None:
        """A file below the watched folder at Drive, put there by somebody else."""
        folder, _, name = path.rpartition("/")
        self.drive.put(name, content, parent=self.drive.folder(folder, parent=self.fleet))

    async def put_at_s3(self, path: str, content: bytes) -> None:
        """An object, put there by somebody else."""
        assert self.s3 is not None, "the site was started without it"
        await self.s3.put_new(path, content)

    async def call_about_s3(self, path: str) -> None:
        """What the bucket's bridge does when an object came."""
        record = {"s3": {"bucket": {"name": BUCKET}, "object": {"key": f"{PREFIX}/{path}"}}}
        headers = {"Fleetwire-Hook-Secret": S3_SECRET}
        answer = await self.http.post("/api/v1/hooks/s3", json={"Records": [record]}, headers=headers)
        answer.raise_for_status()

    async def events(self, device_id: str, *, wait_s: int = _WAIT_S) -> list[dict[str, Any]]:
        """What the device was not given before; acked."""
        headers = self._bearer(device_id, "device")
        path = f"/api/v1/devices/{device_id}"
        params: dict[str, str | int] = {"wait": wait_s}
        if (after := self._positions.get(device_id)) is not None:
            params["after"] = after
        answer = await self.http.get(f"{path}/events", params=params, headers=headers)
        answer.raise_for_status()
        page = answer.json()
        if page["events"]:
            self._positions[device_id] = page["position"]
            acked = await self.http.post(f"{path}/acks", json={"position": page["position"]}, headers=headers)
            acked.raise_for_status()
        return [entry["event"] for entry in page["events"]]

    async def next_event(self, device_id: str, *, deadline_s: float = 90.0) -> dict[str, Any]:
        """The one event that comes next."""
        async with asyncio.timeout(deadline_s):
            while not (events := await self.events(device_id)):
                pass
        (event,) = events
        return event

    async def fetch(self, device_id: str, file: Mapping[str, Any]) -> tuple[bytes, str]:
        """The bytes of a file that an event names, as a device fetches them, and the address they came from."""
        answer = await self.http.get(file["url"], headers=self._bearer(device_id, "device"))
        if answer.status_code != 302:
            raise RuntimeError(f"{file['name']}: {answer.status_code} {answer.text}")
        location = answer.headers["location"]
        # Without the token: it is nobody else's business.
        content = (await self.http.get(location)).raise_for_status().content
        if (len(content), sha256(content).hexdigest()) != (file["size"], file["sha256"]):
            raise RuntimeError(f"{file['name']}: other bytes than were announced")
        return content, location

    async def until_subscribed(self, *, deadline_s: float = 120.0) -> None:
        """Until providers were asked to call, and all feeds have read everything once."""
        end = time.monotonic() + deadline_s
        # Finding a port looks through all processes of the computer.
        port = await asyncio.to_thread(self.machine.ops_port, "watcher-1")
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            while not (self.graph.subscriptions.open and self.drive.channels.open and await self._settled(client)):
                if time.monotonic() > end:
                    raise RuntimeError(f"not subscribed within {deadline_s:g} s: see {self.machine.folder}/up.log")
                await asyncio.sleep(0.05)

    async def _settled(self, client: httpx.AsyncClient) -> bool:
        detail = (await client.get("/ready")).json().get("detail", {})
        feeds = detail.get("cloud_feeds", {})
        return len(feeds) == 2 + (PARTITIONS if self.s3 is not None else 0) and all(
            one["phase"] == "changes" and (one["generation"] > 0 or one["pages"] > 0) for one in feeds.values()
        )

    def _bearer(self, subject: str, scope: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.machine.token(subject, scope)}"}


@asynccontextmanager
async def running_cloud_site(
    folder: Path, *, placement: str, with_s3: bool = False, **settings: str
) -> AsyncIterator[CloudSite]:
    """Stores `sharepoint`, `drive`, `local` and perhaps `s3`; `folder` is for the emulators' bytes."""
    api_port = free_port()
    async with AsyncExitStack() as closing:
        server = closing.enter_context(running_s3()) if with_s3 else None
        graph = await closing.enter_async_context(running_graph(folder / "graph"))
        drive = await closing.enter_async_context(running_drive(folder / "drive"))
        to_s3 = HttpClient()
        closing.push_async_callback(to_s3.close)
        fleet = drive.folder("Fleet")
        given: dict[str, Any] = {
            "FLEETWIRE_API_PORT": str(api_port),
            "FLEETWIRE_GRAPH_TENANT": TENANT,
            "FLEETWIRE_GRAPH_CLIENT_ID": CLIENT_ID,
            "FLEETWIRE_GRAPH_CLIENT_SECRET": CLIENT_SECRET,
            "FLEETWIRE_GRAPH_DRIVES": DRIVE,
            "FLEETWIRE_GRAPH_URL": graph.url,
            "FLEETWIRE_GRAPH_LOGIN_URL": graph.url,
            "FLEETWIRE_DRIVE_URL": drive.url,
            "FLEETWIRE_DRIVE_ROOTS": fleet,
            "FLEETWIRE_DRIVE_KEY_FILE": str(
                drive.account.write_key_file(folder / "drive-key.json", f"{drive.url}/token")
            ),
            "FLEETWIRE_CLOUD_PLACEMENT": placement,
            "FLEETWIRE_HOOKS_URL": f"http://127.0.0.1:{api_port}",
            **(_s3_settings(server) if server is not None else {}),
            **settings,
        }
        machine_of = running_machine(hubs=1, **given)
        # In a thread, for while it starts it asks the emulators, which answer in this one.
        machine = await asyncio.to_thread(machine_of.__enter__)
        try:
            async with httpx.AsyncClient(base_url=machine.api, trust_env=False, timeout=60) as http:
                s3 = None if server is None else S3Provider(S3Client(server.bucket, KEY, to_s3), prefix=PREFIX)
                yield CloudSite(machine, graph, drive, fleet, s3, http)
        except BaseException as error:
            # It keeps its folder, with the log, when it hears of an error.
            await asyncio.to_thread(machine_of.__exit__, type(error), error, error.__traceback__)
            raise
        await asyncio.to_thread(machine_of.__exit__, None, None, None)


def _s3_settings(server: S3Server) -> dict[str, str]:
    return {
        "FLEETWIRE_S3_BUCKET": BUCKET,
        "FLEETWIRE_S3_PREFIX": PREFIX,
        "FLEETWIRE_S3_ENDPOINT": server.url,
        "FLEETWIRE_S3_KEY_ID": KEY.key_id,
        "FLEETWIRE_S3_SECRET": KEY.secret,
        "FLEETWIRE_HOOKS_S3_SECRET": S3_SECRET,
    }
