"""Files in stores elsewhere: the store's own address where it gives one out, else the gateway's."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from loadtests.emulators.drive import DriveEmulator, running_drive
from shared.keys import read_hmac_keys
from shared.signed_urls import verify
from shared.store import devices
from shared.store.pool import Pool
from tests.api.conftest import FILES_KEYS, StartApi, problem
from tests.api.responses import add_response


@pytest.fixture
async def file_id(pool: Pool, sql: asyncpg.Connection) -> str:
    await devices.ensure(pool, "truck-7", "truck")
    made = (await add_response(sql, "truck-7", files=1))[1][0]
    await sql.execute("UPDATE response_files SET store = 'drive', object_id = '1aB'")
    return made


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[DriveEmulator]:
    async with running_drive(tmp_path / "drive") as emulator:
        yield emulator


async def test_a_file_in_a_store_without_addresses_is_fetched_through_the_gateway(
    start_api: StartApi, file_id: str, drive: DriveEmulator, tmp_path: Path
) -> None:
    api = await start_api(
        FLEETWIRE_DRIVE_URL=drive.url,
        FLEETWIRE_DRIVE_ROOTS=drive.folder("Fleet"),
        FLEETWIRE_DRIVE_KEY_FILE=drive.account.write_key_file(tmp_path / "key.json", f"{drive.url}/token"),
    )
    answer = await api.device("truck-7").get(f"/api/v1/files/{file_id}")
    assert answer.status_code == 302
    url = urlsplit(answer.headers["location"])
    assert f"{url.scheme}://{url.netloc}" == api.settings.files_url
    keys = read_hmac_keys(None, FILES_KEYS)
    grant = verify(keys, "GET", url.netloc.encode(), url.path.encode(), url.query.encode(), now=time.time())
    assert (grant.store, grant.object_id, grant.name) == ("drive", "1aB", "file-0.csv")
    assert grant.expires_at - time.time() <= 300
    assert answer.headers["cache-control"] == "no-store"


async def test_a_store_that_is_not_set_up_here_is_said_to_be_out_of_reach(start_api: StartApi, file_id: str) -> None:
    api = await start_api()
    problem(await api.device("truck-7").get(f"/api/v1/files/{file_id}"), 503, "unavailable")
