"""Postgres' own log, read."""

from loadtests.statements import Statement, count_by_name, read_log

LOG = """\
1794980000.100 fleetwire-load LOG:  execute __asyncpg_stmt_7__: WITH input AS (
\t    SELECT * FROM unnest($1::text[])
\t)
\tSELECT 1 FROM input
1794980000.200 fleetwire-load LOG:  statement: SELECT 2;
1794980000.300 fleetwire-load ERROR:  canceling statement due to user request
1794980000.300 fleetwire-load STATEMENT:  SELECT 3
1794980000.400 [unknown] LOG:  could not accept SSL connection
1794980000.500  LOG:  checkpoint starting: time
1794980000.600 other LOG:  execute <unnamed>: SELECT 2;
"""


def test_each_execution_is_found_with_its_time_its_application_and_its_whole_text() -> None:
    assert list(read_log(LOG.splitlines(keepends=True))) == [
        Statement(
            1794980000.1, "fleetwire-load", "WITH input AS ( SELECT * FROM unnest($1::text[]) ) SELECT 1 FROM input"
        ),
        Statement(1794980000.2, "fleetwire-load", "SELECT 2;"),
        Statement(1794980000.6, "other", "SELECT 2;"),
    ]


def test_statements_go_by_their_names_however_they_are_laid_out() -> None:
    named = {"greet": "WITH input AS (\n  SELECT * FROM unnest($1::text[])\n)\nSELECT 1 FROM input\n"}
    assert count_by_name(read_log(LOG.splitlines(keepends=True)), named) == {"SELECT 2;": 2, "greet": 1}
