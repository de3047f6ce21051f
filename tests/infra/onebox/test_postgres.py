"""The embedded Postgres: data that survives, leftovers that do not block, nobody's directory opened."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import asyncpg
import pytest

from infra.onebox.errors import HomeRefused, ServerNotReady
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from loadtests.ports import free_port
from tests.infra.onebox.test_spawn import AS_ROOT_ONLY, wait_gone
from tests.servers import ServerProcess


async def numbers(url: str) -> list[int]:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute("CREATE TABLE IF NOT EXISTS numbers (n integer)")
        await connection.execute("INSERT INTO numbers SELECT count(*) FROM numbers")
        return [row["n"] for row in await connection.fetch("SELECT n FROM numbers ORDER BY n")]
    finally:
        await connection.close()


async def test_data_survives_a_stop_and_a_kill_and_the_url_stays(home: Home) -> None:
    server = ServerProcess(EmbeddedPostgres(home, port=free_port()))
    url = server.url
    try:
        server.start()
        assert await numbers(url) == [0]
        server.stop()
        server.start()
        assert await numbers(url) == [0, 1]
        server.kill()
        server.start()
        assert await numbers(url) == [0, 1, 2]
    finally:
        server.stop()


async def test_a_pid_file_whose_number_now_belongs_to_somebody_else_does_not_block_the_start(home: Home) -> None:
    postgres = EmbeddedPostgres(home, port=free_port(), durable=False)
    server = ServerProcess(postgres)
    try:
        server.start()
        pid_file = postgres.data / "postmaster.pid"
        lines = pid_file.read_text().splitlines(keepends=True)
        server.kill()
        owner = pid_file.stat()
        pid_file.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        server.start()
        assert await numbers(server.url) == [0]
    finally:
        server.stop()


async def test_a_pid_file_full_of_nonsense_does_not_block_the_start(home: Home) -> None:
    postgres = EmbeddedPostgres(home, port=free_port(), durable=False)
    server = ServerProcess(postgres)
    try:
        server.start()
        server.stop()
        (postgres.data / "postmaster.pid").write_bytes(b"\xff\xfe not a number")
        server.start()
    finally:
        server.stop()


def test_an_old_server_that_still_runs_on_the_data_is_ended_first(home: Home) -> None:
    port = free_port()
    orphan = ServerProcess(EmbeddedPostgres(home, port=port, durable=False))
    orphan.start()
    again = ServerProcess(EmbeddedPostgres(home, port=port, durable=False))
    try:
        again.start()
        wait_gone(orphan.pid)
    finally:
        again.stop()
        orphan.stop()


def test_an_initdb_cut_short_is_made_again(home: Home) -> None:
    postgres = EmbeddedPostgres(home, port=free_port(), durable=False)
    root = home.path / "postgres"
    assert postgres.prepare() is True
    data = postgres.data
    data.rename(data.with_name("data.new"))
    (data.with_name("data.new") / "PG_VERSION").unlink()
    assert EmbeddedPostgres(home, durable=False).prepare() is True
    assert not (data.with_name("data.new")).exists()
    assert data.is_relative_to(root) or os.geteuid() == 0


async def test_a_session_without_the_password_is_refused(postgres_admin_url: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(postgres_admin_url, password="guess")


async def test_another_server_on_the_port_is_told_apart_and_the_setting_is_named(
    home: Home, postgres_admin_url: str
) -> None:
    port = int(postgres_admin_url.rpartition(":")[2].partition("/")[0])
    with pytest.raises(ServerNotReady, match="FLEETWIRE_POSTGRES_PORT"):
        await EmbeddedPostgres(home, port=port).wait_ready(5)


async def test_a_server_that_never_answers_is_given_up(home: Home) -> None:
    with pytest.raises(ServerNotReady, match="not ready within"):
        await EmbeddedPostgres(home, port=free_port()).wait_ready(0.2)


async def test_a_new_server_takes_three_hundred_connections_and_speaks_unicode(postgres_admin_url: str) -> None:
    connection = await asyncpg.connect(postgres_admin_url)
    try:
        assert await connection.fetchval("SHOW max_connections") == "300"
        assert await connection.fetchval("SELECT upper('grün') || lower('ÄÖ')") == "GRÜNäö"
        assert await connection.fetchval("SHOW unix_socket_directories") == ""
    finally:
        await connection.close()


def test_no_directory_that_was_there_before_has_its_mode_changed(tmp_path: Path) -> None:
    """In a closed folder, as root, the data lies elsewhere; an ordinary user needs nothing."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = Home(closed / ".fleetwire")
    home.prepare()
    before = {folder: folder.stat().st_mode for folder in (closed, *closed.parents)}
    server = ServerProcess(EmbeddedPostgres(home, port=free_port(), durable=False))
    try:
        server.start()
        assert isinstance(server.server, EmbeddedPostgres)
        elsewhere = not server.server.data.is_relative_to(closed)
        assert elsewhere == (os.geteuid() == 0)
        assert {folder: folder.stat().st_mode for folder in before} == before
        assert stat.S_IMODE(server.server.data.stat().st_mode) == 0o700
    finally:
        server.stop()
        subprocess.run(["rm", "-rf", f"/var/tmp/fleetwire-{home.fingerprint}"], check=True)


@AS_ROOT_ONLY
async def test_after_its_home_was_removed_old_data_is_set_aside_and_the_new_password_works(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home = Home(closed / ".fleetwire")
    home.prepare()
    said: list[str] = []
    apart = Path(f"/var/tmp/fleetwire-{home.fingerprint}")
    server = ServerProcess(EmbeddedPostgres(home, port=free_port(), durable=False, say=said.append))
    try:
        server.start()
        assert await numbers(server.url) == [0]
        server.stop()
        assert said == []
        shutil.rmtree(home.path)
        home.prepare()
        server = ServerProcess(EmbeddedPostgres(home, port=free_port(), durable=False, say=said.append))
        server.start()
        assert await numbers(server.url) == [0]
        [aside] = apart.glob("postgres.old-*")
        assert (aside / "data" / "PG_VERSION").is_file()
        [line] = said
        assert str(aside) in line
    finally:
        server.stop()
        shutil.rmtree(apart, ignore_errors=True)


async def test_a_lost_password_of_our_own_data_is_not_called_another_server(home: Home) -> None:
    postgres = EmbeddedPostgres(home, port=free_port(), durable=False)
    server = ServerProcess(postgres)
    try:
        server.start()
        (home.secrets / "postgres-password").unlink()
        with pytest.raises(ServerNotReady, match="made with another password"):
            await postgres.wait_ready(5)
    finally:
        server.stop()


@AS_ROOT_ONLY
def test_as_root_the_binaries_are_copied_when_their_place_is_closed(
    home: Home, postgres_install: Path, tmp_path: Path
) -> None:
    closed = tmp_path / "venv"
    wheel = closed / postgres_install.parent.name
    wheel.mkdir(parents=True)
    closed.chmod(0o700)
    subprocess.run(["cp", "-a", str(postgres_install), str(wheel)], check=True)
    subprocess.run(["cp", "-a", f"{postgres_install.parent}.libs", str(closed)], check=True)
    server = ServerProcess(
        EmbeddedPostgres(home, port=free_port(), durable=False, install=wheel / postgres_install.name)
    )
    try:
        server.start()
        assert isinstance(server.server, EmbeddedPostgres)
        assert server.server.install is not None
        assert str(server.server.install).startswith(f"/var/tmp/fleetwire-{home.fingerprint}/")
    finally:
        server.stop()


@AS_ROOT_ONLY
def test_data_made_by_one_user_is_not_started_by_another(home: Home) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.prepare()
    os.chown(postgres.data, 0, 0)
    with pytest.raises(HomeRefused, match="belongs to user 0"):
        postgres.prepare()


def test_data_that_is_gone_is_said_and_not_made_anew(home: Home) -> None:
    postgres = EmbeddedPostgres(home, durable=False)
    postgres.prepare()
    postgres.data.parent.rename(postgres.data.parent.with_name("moved"))
    with pytest.raises(HomeRefused, match="is gone"):
        postgres.prepare()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_no_process_of_it_outlives_a_killed_parent(home: Home) -> None:
    program = (
        "import sys, pathlib, time\n"
        "from infra.onebox.home import Home\n"
        "from infra.onebox.postgres import EmbeddedPostgres\n"
        "from tests.servers import ServerProcess\n"
        "home = Home(pathlib.Path(sys.argv[1]))\n"
        "server = ServerProcess(EmbeddedPostgres(home, port=int(sys.argv[2]), durable=False))\n"
        "server.start(); print(server.pid, flush=True); time.sleep(60)"
    )
    arguments = [sys.executable, "-c", program, str(home.path), str(free_port())]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = int(parent.stdout.readline())
        family = [server, *children_of(server)]
        assert len(family) >= 4
        parent.kill()
    for pid in family:
        wait_gone(pid)


def children_of(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(part) for part in text.split()]
