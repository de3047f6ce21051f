"""What docker-compose.production.yml gives to Postgres and PgBouncer, run by the real programs on this machine."""

import asyncio
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from infra.onebox.server_user import server_user
from infra.onebox.spawn import launch_arguments
from loadtests.ports import free_port

COMPOSE = Path(__file__).parents[2] / "infra" / "compose"
PGBOUNCER = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


@pytest.fixture
def place(homes: Path) -> Iterator[Path]:
    """A folder that the servers' user can use."""
    folder = homes / f"copy-{secrets.token_hex(4)}"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _owned(*paths: Path) -> None:
    user = server_user()
    if user is not None:
        for path in paths:
            os.chown(path, user.uid, user.gid)


def _run(program: list[str], environment: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    user = server_user()
    with log.open("wb") as out:
        return subprocess.Popen(
            launch_arguments(program, user=user.name if user else None),
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


@pytest.mark.skipif("FLEETWIRE_TEST_DATABASE_URL" in os.environ, reason="the server is not of this machine")
async def test_a_copy_makes_itself_from_the_primary_and_is_what_commits_wait_for(
    postgres_admin_url: str, postgres_install: Path, place: Path
) -> None:
    parts = urlsplit(postgres_admin_url)
    name, port, password = f"copy_{secrets.token_hex(3)}", free_port(), secrets.token_hex(8)
    (place / "password").write_text(password)
    (place / "copy.sh").write_text((COMPOSE / "postgres" / "copy.sh").read_text())
    # The shipped settings; only what is about the size of the machine and the place is another here.
    (place / "postgresql.conf").write_text((COMPOSE / "postgres" / "postgresql.conf").read_text())
    _owned(place, *place.iterdir())
    environment = {
        "PATH": f"{postgres_install / 'bin'}:/usr/bin:/bin",
        "PGDATA": str(place / "18" / "data"),
        "COPY_NAME": name,
        "PRIMARY_HOST": "127.0.0.1",
        "PRIMARY_PORT": str(parts.port),
        "REPLICATION_PASSWORD_FILE": str(place / "password"),
        "PASSWORDS_FOLDER": str(place),
    }
    own = [f"config_file={place}/postgresql.conf", f"port={port}", "listen_addresses=127.0.0.1", "shared_buffers=16MB"]
    own += ["max_connections=400", f"unix_socket_directories={place}", f"hba_file={place}/18/data/pg_hba.conf"]
    own += [f"ident_file={place}/18/data/pg_ident.conf"]
    program = ["/bin/sh", str(place / "copy.sh"), *(word for one in own for word in ("-c", one))]
    primary = await asyncpg.connect(postgres_admin_url)
    process = None
    try:
        await primary.execute(f"CREATE ROLE replicator REPLICATION LOGIN PASSWORD '{password}'")
        for again in range(2):
            process = _run(program, environment, place / f"log-{again}")
            end = time.monotonic() + 40
            while (
                await primary.fetchval("SELECT state FROM pg_stat_replication WHERE application_name = $1", name)
            ) != "streaming":
                assert process.poll() is None, (place / f"log-{again}").read_text()[-3000:]
                assert time.monotonic() < end, (place / f"log-{again}").read_text()[-3000:]
                await asyncio.sleep(0.05)
            copy = await asyncpg.connect(parts._replace(netloc=parts.netloc.rpartition(":")[0] + f":{port}").geturl())
            assert await copy.fetchval("SELECT pg_is_in_recovery()")
            assert await copy.fetchval("SHOW max_slot_wal_keep_size") == "8GB"
            await copy.close()
            active = await primary.fetchval("SELECT active FROM pg_replication_slots WHERE slot_name = $1", name)
            assert active, "the slot keeps what it has not got yet"
            # A second start goes on with what there is.
            process.terminate()
            await asyncio.to_thread(process.wait, 20)
    finally:
        if process is not None and process.poll() is None:
            process.kill()
            process.wait()
        deadline = time.monotonic() + 10
        while await primary.fetchval("SELECT active FROM pg_replication_slots WHERE slot_name = $1", name):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        await primary.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = $1", name
        )
        await primary.execute("DROP ROLE IF EXISTS replicator")
        await primary.close()


@pytest.mark.skipif(not Path(PGBOUNCER).exists(), reason="pgbouncer is not installed (apt-get install pgbouncer)")
@pytest.mark.parametrize(
    "file", [COMPOSE / "pgbouncer" / "pgbouncer.ini", COMPOSE.parent / "k8s" / "postgres" / "pgbouncer.ini"]
)
async def test_pgbouncer_takes_the_shipped_settings(file: Path, place: Path) -> None:
    port = free_port()
    version = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True).stdout.split()[1]
    lines = []
    for line in file.read_text().splitlines():
        name = line.partition(" = ")[0]
        if name == "max_prepared_statements" and tuple(map(int, version.split(".")[:2])) < (1, 21):
            continue  # what this machine's is too old for
        changed = {
            "listen_port": f"listen_port = {port}",
            "listen_addr": "listen_addr = 127.0.0.1",
            "auth_file": f"auth_file = {place}/users.txt",
        }
        lines.append(changed.get(name, line))
    (place / "pgbouncer.ini").write_text("\n".join(lines) + "\n")
    (place / "users.txt").write_text('"fleetwire" "secret"\n')
    _owned(place, *place.iterdir())
    process = _run([PGBOUNCER, str(place / "pgbouncer.ini")], {"PATH": "/usr/sbin:/usr/bin"}, place / "log")
    try:
        async with asyncio.timeout(20):
            while True:
                assert process.poll() is None, (place / "log").read_text()
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                except OSError:
                    await asyncio.sleep(0.02)
        said = (place / "log").read_text()
        assert "ERROR" not in said, said
        assert "WARNING" not in said, said
    finally:
        process.kill()
        process.wait()
