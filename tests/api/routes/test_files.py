import asyncio
import re
import time
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest

from shared.keys import read_hmac_keys
from shared.signed_urls import verify
from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import FILES_KEYS, RunningApi, StartApi, oct_key_set, problem
from tests.api.responses import add_response

SHA256 = "ab" * 32


@pytest.fixture
async def file_id(pool: Pool, sql: asyncpg.Connection) -> str:
    for device_id in ("truck-7", "truck-8"):
        await devices.ensure(pool, device_id, "truck")
    return (await add_response(sql, "truck-7", files=1))[1][0]


async def test_the_owner_and_an_operator_are_sent_to_the_store_for_five_minutes(api: RunningApi, file_id: str) -> None:
    keys = read_hmac_keys(None, FILES_KEYS)
    for client in (api.device("truck-7"), api.operator):
        answer = await client.get(f"/api/v1/files/{file_id}")
        assert (answer.status_code, answer.content) == (302, b"")
        assert answer.headers["cache-control"] == "no-store"
        url = urlsplit(answer.headers["location"])
        assert f"{url.scheme}://{url.netloc}" == api.settings.files_url
        grant = verify(keys, "GET", url.netloc.encode(), url.path.encode(), url.query.encode(), now=time.time())
        assert re.fullmatch(r"Responses/truck-7/load\.[0-9a-f-]{36}/file-0\.csv", grant.path)
        assert (grant.size, grant.sha256, grant.content_type, grant.name) == (10, SHA256, "text/csv", "file-0.csv")
        assert 290 < grant.expires_at - time.time() <= 300


async def test_a_secret_added_at_the_end_of_the_file_signs_from_then_on(
    start_api: StartApi, file_id: str, tmp_path: Path
) -> None:
    file = tmp_path / "files.json"
    file.write_text(FILES_KEYS)
    api = await start_api(FLEETWIRE_FILES_KEYS="", FLEETWIRE_FILES_KEYS_FILE=file, FLEETWIRE_KEYS_RELOAD_S="0.05")
    device = api.device("truck-7")
    assert "?key=files-1&" in (await device.get(f"/api/v1/files/{file_id}")).headers["location"]
    file.write_text(oct_key_set("files-2"))
    async with asyncio.timeout(20):
        while "?key=files-2&" not in (await device.get(f"/api/v1/files/{file_id}")).headers["location"]:
            pass


async def test_a_file_of_another_device_is_out_of_reach(api: RunningApi, file_id: str) -> None:
    problem(await api.device("truck-8").get(f"/api/v1/files/{file_id}"), 403, "forbidden")
    problem(await api.service.get(f"/api/v1/files/{file_id}"), 403, "forbidden")
    problem(await api.client().get(f"/api/v1/files/{file_id}"), 401, "unauthorized")


async def test_a_file_that_is_not_there_and_an_id_that_is_none(
    api: RunningApi, file_id: str, sql: asyncpg.Connection
) -> None:
    device = api.device("truck-7")
    problem(await device.get(f"/api/v1/files/{uuid4()}"), 404, "not-found")
    for wrong in ("1", file_id.upper(), file_id + "0", "..", "{" + file_id + "}"):
        answer = await device.get(f"/api/v1/files/{wrong}")
        assert answer.status_code in (400, 404)
    assert problem(await device.get("/api/v1/files/xyz"), 400, "invalid-parameter")["field"] == "file_id"
    await sql.execute("UPDATE responses SET completed_at = NULL")
    problem(await device.get(f"/api/v1/files/{file_id}"), 404, "not-found")
