"""Cloud stores from end to end: a request at Microsoft Graph, a response at Google Drive, and the device that waits."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from loadtests.cloud_site import CloudSite, running_cloud_site
from loadtests.emulators.faults import Fault

CSV = b"site,load\nHamburg,12\nBremen,7\n"


@pytest.fixture
async def cloud(tmp_path: Path, database_url: str, redis_url: str) -> AsyncIterator[CloudSite]:
    # Polls are so rare that what comes at all came by a call. Servers of its own would take longer than the test.
    given: dict[str, Any] = {
        "FLEETWIRE_WATCHER_REMOTE_IDLE_S": "600",
        "FLEETWIRE_WATCHER_REMOTE_ACTIVE_S": "600",
        "FLEETWIRE_WORKER_PROCESSES": "1",
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_REDIS_URL": redis_url,
    }
    async with running_cloud_site(tmp_path, placement="drive=1,local=0", **given) as site:
        await site.register("truck-7", "truck-8")
        await site.until_subscribed()
        yield site
        (tmp_path / "up.log").write_text(site.machine.log())


async def test_from_a_file_at_one_provider_to_a_device_that_has_the_response_from_another(cloud: CloudSite) -> None:
    # A request at Graph becomes a response at Drive, told to the device, whose files come through the gateway.
    cloud.graph.write("Requests/truck-7/load.csv", CSV)
    event = await cloud.next_event("truck-7")
    assert (event["type"], event["data"]["request"]) == ("ResponseReady", {"name": "load.csv"})
    fetched = {}
    for file in event["data"]["files"]:
        fetched[file["name"]], location = await cloud.fetch("truck-7", file)
        assert "/v1/stores/drive/" in location
    assert b"Hamburg" not in fetched["response.json"]
    assert "response.json" in fetched
    assert len(fetched) > 1

    # Drive told of the files that the worker wrote there: they are the job's own, and are no responses of others.
    cloud.put_at_drive("Responses/truck-8/plan.pdf", b"%PDF-1.7 of somebody else")
    event = await cloud.next_event("truck-8")
    (file,) = event["data"]["files"]
    assert (file["name"], await cloud.fetch("truck-8", file))[0] == "plan.pdf"
    cloud.graph.write("Responses/truck-8/map.png", b"a map")
    event = await cloud.next_event("truck-8")
    (file,) = event["data"]["files"]
    content, location = await cloud.fetch("truck-8", file)
    assert content == b"a map"
    assert location.startswith(cloud.graph.content_url), "where a provider gives addresses out, it is asked for one"
    assert await cloud.events("truck-7", wait_s=0) == []
    assert await cloud.events("truck-8", wait_s=0) == []

    # Drive is full: the response goes to the other store, within the same attempt, and is told once.
    full: dict[str, Any] = {"status": 403, "reason": "storageQuotaExceeded", "times": 10_000}
    cloud.drive.script.add(Fault("files.create", **full), Fault("upload.*", **full))
    cloud.graph.write("Requests/truck-7/again.csv", CSV)
    event = await cloud.next_event("truck-7")
    assert event["data"]["request"] == {"name": "again.csv"}
    for file in event["data"]["files"]:
        _, location = await cloud.fetch("truck-7", file)
        assert "/v1/files/" in location
    assert await cloud.events("truck-7", wait_s=0) == []
