"""The commands and keys that docs/setup.md says a user of Redis needs are enough for an API and those around it."""

import re
from pathlib import Path
from uuid import uuid4

import redis.asyncio as redis

from shared.bus.job_hints import JobHintReader
from shared.bus.lease_lock import Held, LeaseLocks
from shared.bus.redis_client import LazyRedis
from tests.api.conftest import StartApi
from tests.conftest import ServerFactory
from tests.waiting import until

SETUP = (Path(__file__).parents[2] / "docs" / "setup.md").read_text("utf-8")


def documented() -> list[str]:
    said = re.search(r"channels and keys `fw:\*` and the commands (.*?)\. Servers that", SETUP, re.DOTALL)
    assert said is not None
    return [name.lower().replace(" ", "|") for name in re.findall(r"`([A-Z ]+)`", said[1])]


async def test_a_user_with_the_documented_rights_is_refused_nothing(
    start_api: StartApi, valkey_server: ServerFactory
) -> None:
    server = valkey_server()
    async with redis.Redis.from_url(server.url) as admin:
        rights = ["on", ">secret", "~fw:*", "&fw:*", *(f"+{name}" for name in documented())]
        await admin.execute_command("ACL", "SETUSER", "fleetwire", *rights)  # type: ignore[no-untyped-call]
        url = re.sub("//.*@", "//fleetwire:secret@", server.url)
        api = await start_api(FLEETWIRE_REDIS_URL=url, FLEETWIRE_API_RATE_LIMITS="on")
        made = await api.operator.post("/api/v1/templates", json={"name": "t", "body": {}})
        path = f"/api/v1/templates/{made.json()['template_id']}"
        assert (await api.device("truck-7").get(path)).is_success
        assert (await api.operator.put(path, json={"name": "u", "body": {}}, headers={"If-Match": '"1"'})).is_success
        # Kept in Redis beside the answer.
        await until(lambda: admin.keys("fw:*template*"), "the template in Redis", deadline_s=20)

        async def published() -> bool:
            return "cmdstat_spublish" in await admin.info("commandstats")

        await until(published, "the new template told", deadline_s=20)
        job = {"device_id": "truck-7", "kind": "table", "name": "a.csv", "data": "a\n1\n"}
        posted = await api.device("truck-7").post("/api/v1/jobs", json=job, headers={"Idempotency-Key": str(uuid4())})
        assert posted.status_code == 201
        hints = JobHintReader(url, "requests", consumer="worker-1")
        await hints.wait(0.2)
        await hints.close()
        lazy = LazyRedis(url)
        locks = LeaseLocks(lazy, owner="watcher-1")
        assert await locks.hold(["local/1"]) == {"local/1": Held.MINE}
        await locks.release(["local/1"])
        await lazy.aclose()
        await api.leave()
        assert [entry["object"] for entry in await admin.acl_log()] == []
