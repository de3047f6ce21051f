"""`make bench-jobs`: lists of millions of jobs at their first page and far down, histories, and the same by OFFSET."""

import argparse
import asyncio
import json
import platform
import secrets
import shutil
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from api.pagination import SignedCursors
from infra.migrations.runner import migrate
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.valkey import EmbeddedValkey
from loadtests.bench_jobs import crowd, measure
from loadtests.bench_jobs.measure import Api, Measured
from loadtests.bench_jobs.points import POINTS
from loadtests.ports import free_port
from loadtests.process import start_python
from loadtests.stand import child, wait_listening
from shared.keys import HmacKeys
from shared.tokens import KeyRing

RESULTS: Final = Path(__file__).parents[1] / "results"
FOLDER: Final = Path(__file__).parents[2] / ".fleetwire-bench"
LIST_P95_MS: Final = 10.0
HISTORY_P95_MS: Final = 5.0
SIZE_MAX: Final = 12 * 10**9

# To fill it, nothing needs to survive a crash: what is not finished is made again.
_FILLING: Final = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "3GB",
    "checkpoint_timeout": "1h",
    "autovacuum": "off",
    "shared_buffers": "512MB",
}
_MEASURING: Final = {"shared_buffers": "512MB"}


def main() -> int:
    """Make what is not there yet, measure, show, save."""
    parser = argparse.ArgumentParser(prog="make bench-jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=5_000_000, help="with 4 changes of state each (default 5,000,000)")
    parser.add_argument("--requests", type=int, default=200, help="of each list at each depth (default 200)")
    parser.add_argument(
        "--depth", type=int, default=1_000_000, help="rows before the page far down (default 1,000,000)"
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the database is kept between runs")
    parser.add_argument("--fresh", action="store_true", help="make the database anew")
    parser.add_argument("--only", default="", help="lists with this in their name")
    parser.add_argument("--no-offset", action="store_true", help="leave the same by OFFSET out")
    options = parser.parse_args()
    console = Console()
    console.width = max(console.width, 130)
    home = Home(options.folder / f"jobs-{options.jobs}")
    home.prepare()
    began = time.monotonic()
    with (
        home.lock(),
        Progress(
            TextColumn("{task.description:40}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as progress,
    ):
        try:
            made_s = prepare(home, options.jobs, progress, fresh=options.fresh)
        except crowd.NoRoom as error:
            console.print(f"[red]{error}")
            return 2
        report = run(home, options, progress)
    report |= {"made_s": round(made_s, 1), "whole_s": round(time.monotonic() - began, 1)}
    console.print(table_of(report))
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"bench-jobs-{time.strftime('%Y%m%d-%H%M%S')}.json"
    file.write_text(json.dumps(report, indent=1) + "\n")
    failures = judge(report)
    for failure in failures:
        console.print(f"[red]{failure}")
    console.print(
        f"{report['jobs']:,} jobs, {report['changes']:,} changes, {report['bytes'] / 1e9:.1f} GB; made in "
        f"{report['made_s']:.0f} s, all in {report['whole_s']:.0f} s; saved to {file}"
    )
    return 1 if failures else 0


def prepare(home: Home, jobs: int, progress: Progress, *, fresh: bool) -> float:
    """Make the database unless it is there. Returns how many seconds that took, 0.0 when it was there."""
    task = progress.add_task("the database", total=1.0)
    began = time.monotonic()
    if not fresh:
        with postgres(home, _MEASURING) as (server, _):
            if asyncio.run(crowd.is_made(server.url, jobs)):
                progress.update(task, completed=1.0, description="the database is there")
                return 0.0
    remove(home)
    with postgres(home, _FILLING) as (server, _):
        crowd.check_room(server.data, jobs)

        async def fill() -> None:
            await migrate(server.url)
            await crowd.make(
                server.url, jobs, lambda what, done: progress.update(task, description=what, completed=done)
            )

        asyncio.run(fill())
    progress.update(task, completed=1.0)
    return time.monotonic() - began


def remove(home: Home) -> None:
    """The data of a database of ours, and nothing else."""
    server = EmbeddedPostgres(home, port=free_port())
    if (home.path / f"{server.name}.location").is_file():
        server.prepare()
        shutil.rmtree(server.data)


@contextmanager
def postgres(home: Home, settings: Mapping[str, str]) -> Iterator[tuple[EmbeddedPostgres, int]]:
    """The server and its pid for the length of a block."""
    server = EmbeddedPostgres(home, port=free_port(), settings=dict(settings))
    server.prepare()
    with child(server.launch_arguments(), home.path / "postgres.log", server.environment()) as process:
        asyncio.run(server.wait_ready(120))
        yield server, process.pid


def run(home: Home, options: argparse.Namespace, progress: Progress) -> dict[str, Any]:
    """Everything measured, as it is saved."""
    keys = {name: _key_set(name) for name in ("tokens", "tickets", "files")}
    port = free_port()
    with ExitStack() as stack:
        server, postgres_pid = stack.enter_context(postgres(home, _MEASURING))
        valkey = EmbeddedValkey(home, port=free_port())
        valkey.prepare()
        stack.enter_context(child(valkey.launch_arguments(), home.path / "valkey.log", valkey.environment()))
        asyncio.run(valkey.wait_ready(30))
        log = stack.enter_context((home.path / "api.log").open("wb"))
        environment = {
            "FLEETWIRE_DATABASE_URL": server.url,
            "FLEETWIRE_REDIS_URL": valkey.url,
            "FLEETWIRE_TOKEN_KEYS": keys["tokens"],
            "FLEETWIRE_TICKET_KEYS": keys["tickets"],
            "FLEETWIRE_FILES_KEYS": keys["files"],
            "FLEETWIRE_API_PORT": str(port),
            "FLEETWIRE_OPS_PORT": str(free_port()),
            "FLEETWIRE_API_DRAIN_S": "0",
            # Limited as always, and never reached.
            "FLEETWIRE_API_RATE_OPERATOR": "1000000",
            "FLEETWIRE_API_RATE_ALL_PER_S": "1000000",
            "FLEETWIRE_LOG_LEVEL": "warning",
        }
        process = start_python("api", environ=environment, log=log)
        stack.callback(process.wait, 30)
        stack.callback(process.terminate)
        wait_listening(port)
        token = KeyRing.from_jwks(keys["tokens"]).mint(
            subject="bench", scopes=frozenset({"operator"}), now=time.time(), lifetime_s=6 * 3600
        )
        api = Api(port, token, (process.pid, postgres_pid))
        stack.callback(api.close)
        cursors = SignedCursors(HmacKeys.from_jwks(keys["files"]))
        return asyncio.run(_measured(server.url, api, cursors, options, progress))


async def _measured(
    url: str, api: Api, cursors: SignedCursors, options: argparse.Namespace, progress: Progress
) -> dict[str, Any]:
    points = [point for point in POINTS if options.only in point.name]
    task = progress.add_task("lists", total=2 * len(points) + 2)
    sql = await asyncpg.connect(url, command_timeout=120)
    await sql.execute("SET statement_timeout = 0")
    try:
        found: list[Measured] = []
        for point in points:
            depth, key = await measure.key_at(sql, point, min(options.depth, options.jobs // 5))
            for depth_, key_ in ((0, None), (depth, key)) if depth else ((0, None),):
                progress.update(task, description=f"{point.name}, from {depth_:,}")
                measured = measure.lists(api, cursors, point, depth_, key_, requests=options.requests)
                measured.statement_ms = await measure.statement(sql, point, key_)
                if not options.no_offset:
                    measured.offset_ms = await measure.offset(sql, point, key_)
                found.append(measured)
                progress.advance(task)
        usual = await sql.fetch("SELECT job_id FROM jobs TABLESAMPLE SYSTEM (1) LIMIT $1", options.requests)
        (long,) = await sql.fetch("SELECT job_id FROM jobs ORDER BY job_id LIMIT 1")
        histories = [
            measure.histories(api, [str(row[0]) for row in usual], "histories of 4", requests=options.requests),
            measure.histories(
                api, [str(long[0])], f"history of {crowd.LONG_HISTORY:,}, page after page", requests=options.requests
            ),
        ]
        progress.advance(task, 2)
        counts = await sql.fetchrow(
            "SELECT (SELECT count(*) FROM jobs) AS jobs, (SELECT count(*) FROM job_status) AS changes,"
            " pg_database_size(current_database()) AS bytes"
        )
        assert counts is not None
    finally:
        await sql.close()
    return {
        "machine": platform.platform(),
        "python": platform.python_version(),
        "page": measure.PAGE,
        "postgres": _MEASURING,
        **dict(counts),
        "lists": [one.as_json() for one in found],
        "histories": [one.as_json() for one in histories],
    }


def judge(report: dict[str, Any]) -> list[str]:
    """What did not hold."""
    failures = [
        f"{one['list']} from {one['depth']:,}: p95 {one['p95_ms']} ms is above {limit:g} ms"
        for key, limit in (("lists", LIST_P95_MS), ("histories", HISTORY_P95_MS))
        for one in report[key]
        if one["p95_ms"] > limit
    ]
    if report["bytes"] > SIZE_MAX:
        failures.append(f"the database has {report['bytes'] / 1e9:.1f} GB, more than {SIZE_MAX / 1e9:.0f} GB")
    return failures


def table_of(report: dict[str, Any]) -> Table:
    """A row for each list and depth."""
    table = Table(
        title=f"Pages of {report['page']} of {report['jobs']:,} jobs, by REST; its statement, and the same by OFFSET"
    )
    for name in (
        "list",
        "from row",
        "rows a page",
        "p50 ms",
        "p95 ms",
        "p99 ms",
        "CPU ms",
        "statement ms",
        "OFFSET ms",
        "ratio",
    ):
        table.add_column(name, justify="left" if name == "list" else "right")
    for one in [*report["lists"], *report["histories"]]:
        statement, offset = one["statement_ms"], one["offset_ms"]
        table.add_row(
            one["list"],
            f"{one['depth']:,}",
            f"{one['rows_per_page']:g}",
            f"{one['p50_ms']:.2f}",
            f"{one['p95_ms']:.2f}",
            f"{one['p99_ms']:.2f}",
            f"{one['cpu_ms']:.2f}",
            "" if statement is None else f"{statement:,.2f}",
            "" if offset is None else f"{offset:,.2f}",
            "" if offset is None or statement is None else f"{offset / max(statement, 0.01):,.1f}",
        )
    return table


def _key_set(name: str) -> str:
    key = urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return json.dumps({"keys": [{"kty": "oct", "kid": name, "alg": "HS256", "k": key}]})


if __name__ == "__main__":
    raise SystemExit(main())
