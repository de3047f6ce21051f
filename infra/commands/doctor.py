"""`fleetwire doctor`: look at everything that a set-up needs and say what is wrong and how to mend it.

Every look has a deadline and stands alone, so one broken part hides no other. Ends 0 when something runs here and
nothing needs mending.
"""

import asyncio
import os
import resource
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import asyncpg
import redis.asyncio
import redis.exceptions

from infra.command_settings import CommandSettings
from infra.commands.doctor_hints import look_at_hints
from infra.migrations import runner
from infra.onebox.errors import OneboxError
from infra.onebox.postgres import find_binaries
from infra.onebox.readiness import ready_status
from infra.onebox.valkey import find_server
from infra.shown_commands import shown, starting
from shared.bus.redis_client import REDIS_ERRORS, LazyRedis
from shared.settings import load

__all__ = ["Finding", "Verdict", "examine", "report", "run"]

Verdict = Literal["good", "note", "bad"]

_LOOK_DEADLINE_S: Final = 8.0
_FREE_SPACE_MIN: Final = 1024**3
_OPEN_FILES_MIN: Final = 4096
_SHOWN_MAX: Final = 10
_MARKS: Final[dict[Verdict, str]] = {"good": "ok  ", "note": "note", "bad": "BAD "}


@dataclass(frozen=True)
class Finding:
    """What one look found; `mend` says what to do about it."""

    verdict: Verdict
    what: str
    mend: str = ""


Look = Callable[[CommandSettings], Awaitable[list[Finding]]]


def run(environ: Mapping[str, str]) -> int:
    """Print the findings; 1 when one is bad."""
    return report(asyncio.run(examine(load(CommandSettings, environ))))


def report(findings: list[Finding]) -> int:
    """Print them; 1 when one is bad."""
    for finding in findings:
        print(f"{_MARKS[finding.verdict]} {finding.what}")
        if finding.mend:
            print(f"       → {finding.mend}")
    print(_summary(findings))
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _summary(findings: list[Finding]) -> str:
    bad, notes = (sum(finding.verdict == verdict for finding in findings) for verdict in ("bad", "note"))
    found = counted(bad, "thing is bad", "things are bad") if bad else "nothing bad"
    return f"{counted(notes, 'note')}, {found}" if notes else found


def counted(number: int, one: str, more: str | None = None) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {one if number == 1 else more or f'{one}s'}"


async def examine(settings: CommandSettings) -> list[Finding]:
    """All findings, in the order of the looks."""
    looks: tuple[tuple[str, Look], ...] = (
        ("this machine", _machine),
        ("the embedded servers", _binaries),
        ("the home", _home),
        ("Postgres", _postgres),
        ("Redis", _redis),
        ("hints of jobs", _hints),
        ("the processes", _processes),
        ("the devices", _devices),
    )
    findings: list[Finding] = []
    for name, look in looks:
        try:
            async with asyncio.timeout(_LOOK_DEADLINE_S):
                findings += await look(settings)
        except TimeoutError:
            findings.append(Finding("bad", f"{name}: no answer within {_LOOK_DEADLINE_S:.0f} s", "is it stopped?"))
    return findings


async def _machine(settings: CommandSettings) -> list[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = hard if hard != resource.RLIM_INFINITY else soft
    few = 0 <= allowed < _OPEN_FILES_MIN
    version = ".".join(str(part) for part in sys.version_info[:3])
    return [
        Finding("good", f"Python {version}, {os.cpu_count()} cores"),
        Finding("note" if few else "good", f"open files: {allowed}", "a hub needs one for each device" if few else ""),
    ]


async def _binaries(settings: CommandSettings) -> list[Finding]:
    findings = []
    for name, given, find in (
        ("Postgres", settings.database_url, find_binaries),
        ("Valkey", settings.redis_url, find_server),
    ):
        if given is not None:
            continue
        try:
            findings.append(Finding("good", f"embedded {name}: {find()}"))
        except OneboxError as error:
            findings.append(Finding("bad", f"embedded {name}: none", str(error)))
    return findings


async def _home(settings: CommandSettings) -> list[Finding]:
    home = settings.home
    if not home.path.is_dir():
        return [Finding("note", f"home {home.path}: nothing here yet", f"`{starting()}` makes it")]
    free = shutil.disk_usage(home.path).free
    findings = [Finding("good", f"home {home.path}, {free / 1024**3:.1f} GiB free")]
    if free < _FREE_SPACE_MIN:
        findings[0] = Finding("bad", findings[0].what, "Postgres stops when the disk is full: make room")
    running = settings.running
    if running is not None:
        cloud = Path(running.cloud)
        writable = os.access(cloud, os.W_OK)
        findings.append(
            Finding("good", f"cloud folder {cloud}")
            if writable
            else Finding("bad", f"cloud folder {cloud} cannot be written", "mend its owner or mode")
        )
    return findings


def _database_url(settings: CommandSettings) -> str | None:
    running = settings.running
    return settings.database_url or (running.database_url if running else None)


async def _postgres(settings: CommandSettings) -> list[Finding]:
    url = _database_url(settings)
    if url is None:
        return [Finding("note", "Postgres: nothing runs here")]
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError) as error:
        return [Finding("bad", f"Postgres on {_shown(url)}: {error}", "start it, or mend FLEETWIRE_DATABASE_URL")]
    try:
        return await _examine_database(connection)
    finally:
        await connection.close(timeout=2)


async def _examine_database(connection: asyncpg.Connection) -> list[Finding]:
    findings = []
    version = await connection.fetchval("SHOW server_version")
    used = await connection.fetchval("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")
    most = int(await connection.fetchval("SHOW max_connections"))
    crowded = used > most - 10
    findings.append(
        Finding(
            "bad" if crowded else "good",
            f"Postgres {version}, {used} of {most} connections",
            "lower FLEETWIRE_DB_POOL_MAX or raise max_connections" if crowded else "",
        )
    )
    try:
        ran = {row["name"] for row in await connection.fetch("SELECT name FROM schema_migrations")}
    except asyncpg.UndefinedTableError:
        return [*findings, Finding("bad", "the database is empty", f"run `{shown('migrate')}`")]
    missing = [file.name for file in runner.migration_files() if file.name not in ran]
    if missing:
        findings.append(Finding("bad", f"migrations missing: {', '.join(missing)}", f"run `{shown('migrate')}`"))
    for name, wanted in runner.SERVER_SETTINGS.items():
        if await connection.fetchval("SELECT current_setting($1, true)", name) in (None, "0"):
            findings.append(Finding("bad", f"{name} is not set (it should be {wanted})", f"run `{shown('migrate')}`"))
    epoch = await connection.fetchrow("SELECT epoch, reason, raised_at FROM log_identity")
    findings.append(
        Finding("good", f"log epoch {epoch['epoch']} ({epoch['reason']}, {epoch['raised_at']:%Y-%m-%d %H:%M})")
    )
    return findings


async def _hints(settings: CommandSettings) -> list[Finding]:
    return [Finding(*found) for found in await look_at_hints(settings.queue_url)]


async def _redis(settings: CommandSettings) -> list[Finding]:
    running = settings.running
    url = settings.redis_url or (running.redis_url if running else None)
    if url is None:
        return [Finding("note", "Redis: nothing runs here")]
    mend = "devices are served without it, later; start it, or mend FLEETWIRE_REDIS_URL"
    lazy = LazyRedis(url, deadline_s=2, ask_s=2, connections=2, name="doctor")
    try:
        client = await lazy.get()
        nodes = 1
        if isinstance(client, redis.asyncio.RedisCluster):
            await client.initialize()
            nodes = len(client.get_primaries())
            info = await client.info(target_nodes=client.get_random_primary_node())
            node = client.get_node_from_key("fw:doctor")
            await client.execute_command("SPUBLISH", "fw:doctor", "", target_nodes=node)
        else:
            info = await client.info()
            await client.spublish("fw:doctor", "")
    except REDIS_ERRORS as error:
        return [Finding("bad", f"Redis on {_shown(url)}: {error}", mend)]
    finally:
        await lazy.aclose()
    name = info.get("server_name") or "redis"
    version = info.get("valkey_version") or info.get("redis_version")
    cluster = f", a cluster with {nodes} primaries" if nodes > 1 else ""
    return [Finding("good", f"{name} {version}, {info.get('used_memory_human')} used{cluster}")]


async def _processes(settings: CommandSettings) -> list[Finding]:
    running = settings.running
    if running is None:
        elsewhere = settings.database_url is not None
        mend = "" if elsewhere else f"`{starting()}` starts it"
        return [Finding("note" if elsewhere else "bad", "no Fleetwire runs in this home", mend)]
    findings = []
    for name, port in running.ops.items():
        status, body = await ready_status(port)
        if status == 200:
            findings.append(Finding("good", f"{name} is ready"))
        else:
            findings.append(
                Finding("bad", f"{name} is not ready: {body[:300]}", f"see its lines where `{starting()}` runs")
            )
    return findings


async def _devices(settings: CommandSettings) -> list[Finding]:
    url = _database_url(settings)
    if url is None:
        return []
    try:
        connection = await asyncpg.connect(url, timeout=5)
    except (OSError, asyncpg.PostgresError):
        return []  # said above
    try:
        return await _examine_devices(connection)
    except asyncpg.UndefinedTableError:
        return []  # said above
    finally:
        await connection.close(timeout=2)


async def _examine_devices(connection: asyncpg.Connection) -> list[Finding]:
    findings = []
    counts = await connection.fetchrow(
        "SELECT count(*) AS devices, coalesce(sum(head_seq - least(acked_seq, head_seq)), 0) AS waiting "
        "FROM devices JOIN cursors USING (device_id)"
    )
    findings.append(
        Finding("good", f"{counted(counts['devices'], 'device')}, {counted(counts['waiting'], 'event')} not acked yet")
    )
    hubs = await connection.fetch(
        "SELECT name, connections, capacity, draining FROM hubs "
        "WHERE heartbeat_at > clock_timestamp() - interval '15 s' ORDER BY name"
    )
    for hub in hubs:
        note = ", draining" if hub["draining"] else ""
        findings.append(
            Finding("good", f"hub {hub['name']}: {hub['connections']} of {hub['capacity']} devices connected{note}")
        )
    strangers = await connection.fetch(
        "SELECT device_id, count(*) AS files FROM items WHERE state = 'waiting' GROUP BY 1 ORDER BY 1 LIMIT $1",
        _SHOWN_MAX + 1,
    )
    for row in strangers[:_SHOWN_MAX]:
        waiting = counted(row["files"], "file waits", "files wait")
        command = shown(f"token --device {row['device_id']}")
        findings.append(
            Finding(
                "note",
                f"folder of an unknown device: {row['device_id']} ({waiting})",
                f"`{command}` registers it as a truck (--class names another class); then they are processed",
            )
        )
    if len(strangers) > _SHOWN_MAX:
        findings.append(Finding("note", "and more folders of unknown devices"))
    jobs = await connection.fetch(
        "SELECT current_status AS status, count(*) AS jobs FROM jobs "
        "WHERE current_status IN ('queued', 'running', 'retry', 'dead') GROUP BY 1 ORDER BY 1"
    )
    for row in jobs:
        dead = row["status"] == "dead"
        mend = "the error stands with the job (table jobs); the device was told" if dead else ""
        findings.append(Finding("note" if dead else "good", f"jobs {row['status']}: {row['jobs']}", mend))
    return findings


def _shown(url: str) -> str:
    """An address without its password."""
    return urlsplit(url).netloc.rpartition("@")[2]
