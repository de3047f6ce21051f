"""Store and API work through PgBouncer, in the modes and with the settings that the set-up names."""

import asyncio
import re
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from infra.onebox.server_user import server_user
from infra.onebox.spawn import launch_arguments
from loadtests.ports import free_port
from loadtests.stand import child, wait_listening
from shared.store import cursors, log
from shared.store.cursors import Ack
from shared.store.log import APPEND_STATEMENTS, PageRequest
from shared.store.pool import Connection, Pool, open_pool
from tests.api.conftest import StartApi
from tests.shared.store.samples import event, make_devices

PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
pytestmark = pytest.mark.skipif(
    not Path(PGBOUNCER).exists(), reason="pgbouncer is not installed (apt-get install pgbouncer)"
)


def keeps_prepared_statements() -> bool:
    """Whether it is 1.21 or later."""
    if not Path(PGBOUNCER).exists():
        return False
    said = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"(\d+)\.(\d+)", said)
    assert version is not None, said
    return (int(version[1]), int(version[2])) >= (1, 21)


MODES = [("transaction", 0), ("session", 100), *([("transaction", 100)] if keeps_prepared_statements() else [])]


@contextmanager
def bouncer(folder: Path, database_url: str, mode: str) -> Iterator[str]:
    """A PgBouncer before the database; its address."""
    parts = urlsplit(database_url)
    assert parts.username is not None
    assert parts.password is not None
    port = free_port()
    folder.mkdir()
    folder.chmod(0o755)
    (folder / "users.txt").write_text(f'"{parts.username}" "{unquote(parts.password)}"\n')
    prepared = "max_prepared_statements = 200" if keeps_prepared_statements() else ""
    (folder / "pgbouncer.ini").write_text(f"""
[databases]
* = host={parts.hostname} port={parts.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users.txt
pool_mode = {mode}
default_pool_size = {4 if mode == "transaction" else 20}
query_wait_timeout = 5
{prepared}
""")
    user = server_user()
    program = launch_arguments([PGBOUNCER, str(folder / "pgbouncer.ini")], user=user.name if user else None)
    log_file = folder.with_suffix(".log")
    with child(program, log_file, {"PATH": "/usr/sbin:/usr/bin"}):
        wait_listening(port)
        yield urlunsplit(parts._replace(netloc=f"{parts.netloc.rpartition('@')[0]}@127.0.0.1:{port}"))


@pytest.fixture(params=MODES, ids=lambda mode: f"{mode[0]}, {mode[1]} prepared")
async def through(request: pytest.FixtureRequest, database_url: str, homes: Path) -> AsyncIterator[tuple[str, int]]:
    mode, cache = request.param
    with bouncer(homes / f"bouncer-{secrets.token_hex(4)}", database_url, mode) as url:
        yield url, cache


async def open_through(through: tuple[str, int]) -> Pool:
    url, cache = through
    return await open_pool(
        url, name="test", min_size=2, max_size=8, statement_cache_size=cache, prepared=APPEND_STATEMENTS
    )


async def test_appends_acks_and_pages(through: tuple[str, int]) -> None:
    pool = await open_through(through)
    names = [f"truck-{number}" for number in range(8)]
    await make_devices(pool, *names)
    # More at once than the pooler has connections: they change hands between the statements.
    for turn in range(6):
        results = await asyncio.gather(*(log.append_committed(pool, [event(name, f"{turn}")]) for name in names))
        assert [result[0].seq for result in results] == [turn + 1] * len(names)
    await asyncio.gather(*(cursors.record_acks(pool, [Ack(name, 1, 3)]) for name in names))
    pages = await log.read_pages(pool, [PageRequest(name, 3, 10, 10_000) for name in names])
    assert {(page.acked, len(page.events)) for page in pages.values()} == {(3, 3)}
    await pool.close()


async def test_the_bounds_of_the_database_hold_and_cancelling_reaches_the_server(through: tuple[str, int]) -> None:
    pool = await open_through(through)

    async def bounds(connection: Connection) -> tuple[str, str]:
        (row,) = await connection.fetch(
            "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('statement_timeout')"
        )
        return row[0], row[1]

    assert await pool.run(bounds) == ("5s", "10s")
    sleeping = [asyncio.create_task(pool.fetch("SELECT pg_sleep(60) AS through_a_pooler")) for _ in range(2)]
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%AS through_a_pooler' AND state = 'active'"
    for task, left in ((sleeping[0], 1), (sleeping[1], 0)):
        async with asyncio.timeout(8):  # below the statement's own 10 s
            while (await pool.fetch(running))[0][0] != left + 1:
                await asyncio.sleep(0.01)
            task.cancel()
            while (await pool.fetch(running))[0][0] != left:
                await asyncio.sleep(0.01)
    await asyncio.gather(*sleeping, return_exceptions=True)
    await pool.close()


async def test_a_log_that_is_replaced_behind_it_raises_the_epoch_without_a_new_connection(
    through: tuple[str, int],
) -> None:
    url, cache = through
    pool = await open_pool(url, name="test", max_size=1, statement_cache_size=cache, identify_s=0.05)
    assert pool.witness.is_behind_pooler
    await pool.fetch("UPDATE log_identity SET timeline = timeline + 1")
    async with asyncio.timeout(10):
        while (await pool.fetch("SELECT epoch FROM log_identity"))[0][0] == 1:
            await asyncio.sleep(0.01)
    await pool.close()


async def test_an_api_behind_it_answers(through: tuple[str, int], start_api: StartApi) -> None:
    url, cache = through
    api = await start_api(FLEETWIRE_DATABASE_URL=url, FLEETWIRE_DB_STATEMENT_CACHE=cache)
    device = api.device("truck-7")
    path = "/api/v1/devices/truck-7/events"
    assert (await device.get(path)).status_code == 200
    published = [{"device_id": "truck-7", "type": "Test", "id": str(number), "data": {}} for number in range(5)]
    answers = await asyncio.gather(
        *(api.service.post("/api/v1/events", json={"events": [one]}) for one in published),
        *(device.get(path) for _ in range(10)),
    )
    assert {answer.status_code for answer in answers} == {200}
    page = (await device.get(path)).json()
    assert len(page["events"]) == 5
    assert (await device.post("/api/v1/devices/truck-7/acks", json={"position": page["position"]})).status_code == 200
