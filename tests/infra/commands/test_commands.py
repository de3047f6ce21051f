"""The commands on a real database."""

import asyncio
import json
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

import asyncpg
import pytest

from infra.command_settings import CommandSettings
from infra.commands import doctor, migrate, raise_epoch, token
from infra.commands.doctor import Finding, examine
from infra.commands.errors import CommandFailed
from infra.onebox.home import Home
from infra.onebox.keys import development_keys
from infra.onebox.running import Running
from loadtests.ports import free_port
from shared.keys import read_key_ring
from shared.settings import SettingsError, load

T = TypeVar("T")


@pytest.fixture
def environ(home: Home, database_url: str, redis_url: str) -> dict[str, str]:
    development_keys(home)
    return {
        "FLEETWIRE_HOME": str(home.path),
        "FLEETWIRE_DATABASE_URL": database_url,
        "FLEETWIRE_REDIS_URL": redis_url,
    }


def query(database_url: str, statement: str) -> list[asyncpg.Record]:
    async def ask() -> list[asyncpg.Record]:
        connection = await asyncpg.connect(database_url)
        try:
            return list(await connection.fetch(statement))
        finally:
            await connection.close()

    return asyncio.run(_as_coroutine(ask()))


async def _as_coroutine(work: Awaitable[T]) -> T:
    return await work


def found(environ: dict[str, str]) -> list[Finding]:
    return asyncio.run(examine(load(CommandSettings, environ)))


def test_token_registers_the_device_and_prints_only_the_token(
    environ: dict[str, str], home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    status = token.run(
        environ, device="truck-7", device_class="office", scopes=frozenset({"device"}), subject=None, lifetime_s=60
    )
    printed = capsys.readouterr().out
    assert status == 0
    claims = read_key_ring(development_keys(home).tokens_public, None).verify(printed.strip(), now=time.time())
    assert (claims.subject, claims.device_class, claims.scopes) == ("truck-7", "office", frozenset({"device"}))
    rows = query(environ["FLEETWIRE_DATABASE_URL"], "SELECT device_id, class FROM devices")
    assert [tuple(row) for row in rows] == [("truck-7", "office")]


def test_a_token_of_an_operator_registers_nothing(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    token.run(environ, device=None, device_class="truck", scopes=frozenset({"operator"}), subject="ana", lifetime_s=60)
    assert capsys.readouterr().out.count(".") == 2
    assert query(environ["FLEETWIRE_DATABASE_URL"], "SELECT FROM devices") == []


def test_public_keys_cannot_sign(environ: dict[str, str], home: Home) -> None:
    environ["FLEETWIRE_TOKEN_KEYS_FILE"] = str(development_keys(home).tokens_public)
    with pytest.raises(SettingsError, match="public keys only"):
        load(CommandSettings, environ).need_signing_keys()


def test_the_epoch_is_raised_for_every_device(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    url = environ["FLEETWIRE_DATABASE_URL"]
    asyncio.run(token.register(url, "truck-7", "truck"))
    assert raise_epoch.run(environ, reason="drill") == 0
    assert "epoch is 2" in capsys.readouterr().out
    assert query(url, "SELECT epoch FROM devices")[0]["epoch"] == 2
    assert query(url, "SELECT epoch, reason FROM log_identity")[0]["reason"] == "drill"


def test_migrate_says_when_there_is_nothing_to_do(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate.run(environ, post=True) == 0
    assert capsys.readouterr().out == "nothing to do\n"


def test_migrate_names_a_database_that_is_not_there() -> None:
    url = f"postgresql://nobody:secret@127.0.0.1:{free_port()}/none"
    with pytest.raises(CommandFailed, match="cannot be brought up to date") as caught:
        migrate.run({"FLEETWIRE_DATABASE_URL": url}, post=True)
    assert "secret" not in str(caught.value)


def test_the_doctor_finds_nothing_wrong_with_what_is_right(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert doctor.run(environ) == 0
    printed = capsys.readouterr().out
    assert "Postgres 1" in printed
    assert "BAD" not in printed
    assert "fleetwire:" not in printed
    assert printed.endswith("\n1 note, nothing bad\n")


def test_the_doctor_lists_folders_of_unknown_devices(environ: dict[str, str]) -> None:
    query(
        environ["FLEETWIRE_DATABASE_URL"],
        """WITH feed AS (INSERT INTO feeds (feed_id, provider, root) VALUES ('f', 'local', '/') RETURNING feed_id)
        INSERT INTO items (feed_id, item_id, path, device_id, area, state, content_version, size)
        SELECT feed_id, 'i', 'Requests/truck-99/a.csv', 'truck-99', 'request', 'waiting', 'v', 1 FROM feed""",
    )
    # The foreign key is checked at the end of the statement, so both rows may come from one.
    [stranger] = [finding for finding in found(environ) if "unknown device" in finding.what]
    assert "truck-99 (1 file waits)" in stranger.what
    assert "fleetwire token --device truck-99" in stranger.mend


def test_the_doctor_names_servers_that_do_not_answer(environ: dict[str, str]) -> None:
    environ["FLEETWIRE_DATABASE_URL"] = f"postgresql://someone:hidden@127.0.0.1:{free_port()}/none"
    environ["FLEETWIRE_REDIS_URL"] = f"redis://:hidden@127.0.0.1:{free_port()}/0"
    bad = [finding for finding in found(environ) if finding.verdict == "bad"]
    assert [finding.what.split(" on ")[0] for finding in bad] == ["Postgres", "Redis"]
    assert not any("hidden" in finding.what + finding.mend for finding in bad)


def test_the_doctor_says_what_a_process_that_is_not_ready_lacks(environ: dict[str, str], home: Home) -> None:
    Running(
        pid=1,
        api="http://127.0.0.1:1",
        hubs=[],
        files="",
        cloud=str(home.path),
        database_url=environ["FLEETWIRE_DATABASE_URL"],
        redis_url=environ["FLEETWIRE_REDIS_URL"],
        token_keys_file=None,
        ops={"worker": free_port()},
    ).write(home)
    [bad] = [finding for finding in found(environ) if finding.verdict == "bad"]
    assert bad.what.startswith("worker is not ready")


def test_the_running_file_is_private_and_its_ready_line_holds_no_secret(home: Home) -> None:
    running = Running(
        1, "http://a", ["ws://h"], "http://f", "/c", "postgresql://u:hidden@h/d", "redis://:hidden@h", None, {}
    )
    running.write(home)
    assert (home.run / "up.json").stat().st_mode & 0o077 == 0
    assert Running.read(home) == running
    line = running.ready_line()
    assert "hidden" not in line
    assert json.loads(line)["ready"] is True
    Running.remove(home)
    assert Running.read(home) is None


def test_a_running_file_that_is_damaged_counts_as_none(home: Home) -> None:
    (home.run / "up.json").write_text("{")
    assert Running.read(home) is None
    (home.run / "up.json").write_text('{"unknown": 1}')
    assert Running.read(home) is None


def test_the_environment_comes_before_what_runs(environ: dict[str, str], tmp_path: Path) -> None:
    settings = load(CommandSettings, environ)
    assert settings.need_database_url() == environ["FLEETWIRE_DATABASE_URL"]
    with pytest.raises(SettingsError, match="FLEETWIRE_API_URL"):
        settings.need_api_url()
