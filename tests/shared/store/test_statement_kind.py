"""A statement is taken for a read only if it is one: checked by Postgres for all that we have."""

import re
from pathlib import Path

import asyncpg
import pytest

from shared.store.queries import statements
from shared.store.statement_kind import is_read

SUBJECTS = sorted(file.stem for file in (Path(__file__).parents[3] / "shared/store/queries").glob("*.sql"))


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT 1",
        "  select name FROM leases WHERE name = 'update me'",
        "-- INSERT is what it does not do\nSELECT 1",
        "/* DELETE */ WITH a AS (SELECT 1) SELECT * FROM a",
        "SELECT deleted_at, updated_at, inserted FROM t",
        "SHOW server_version",
    ],
)
def test_reads(statement: str) -> None:
    assert is_read(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO a VALUES (1)",
        "WITH gone AS (DELETE FROM a RETURNING *) SELECT * FROM gone",
        "SELECT * FROM a FOR UPDATE",
        "SELECT * FROM a FOR NO KEY UPDATE SKIP LOCKED",
        "SELECT * FROM a FOR KEY SHARE",
        "SELECT nextval('s')",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_notify('a', 'b')",
        "SELECT pg_promote()",
        "SELECT set_config('a', 'b', false)",
        "SELECT * INTO b FROM a",
        "VALUES (1)",
        "EXPLAIN ANALYZE DELETE FROM a",
        "LOCK TABLE a",
        "",
    ],
)
def test_what_is_not_surely_a_read_counts_as_a_write(statement: str) -> None:
    assert not is_read(statement)


async def test_postgres_lets_every_statement_that_we_call_a_read_run_where_nothing_may_be_written(
    database_url: str,
) -> None:
    connection = await asyncpg.connect(database_url)
    everything = [(subject, *named) for subject in SUBJECTS for named in statements(subject).items()]
    for subject, name, statement in everything:
        if is_read(statement):
            nulls = [None] * max((int(number) for number in re.findall(r"\$(\d+)", statement)), default=0)
            async with connection.transaction(readonly=True):
                try:
                    await connection.fetch(statement, *nulls)
                except asyncpg.ReadOnlySQLTransactionError as error:
                    raise AssertionError(f"{subject}: {name} writes") from error
                except asyncpg.DataError:
                    continue  # nulls were not what it expects
    await connection.close()


def test_the_statements_of_the_log_are_told_apart() -> None:
    log = statements("log")
    assert {name for name, statement in log.items() if is_read(statement)} == {
        "known_keys",
        "read_pages",
        "trim_candidates",
    }


@pytest.mark.parametrize("subject", ["job_list", "inspections"])
def test_lists_that_may_be_read_from_copies_are_reads(subject: str) -> None:
    assert all(is_read(statement) for statement in statements(subject).values())
    assert is_read(statements("photos")["page"])
    assert is_read(statements("templates")["page"])
