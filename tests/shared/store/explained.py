"""What a statement reads, by Postgres' own word."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg


class Read(NamedTuple):
    """What a statement read: by which indexes, how many rows came out of scans or were thrown away there, and pages.

    `nodes` are those below the top: to sort what is returned is as well.
    """

    indexes: set[str]
    rows: int
    pages: int
    nodes: set[str]


def literal(value: object) -> str:
    """A value as it stands in a statement."""
    match value:
        case None:
            return "NULL"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case datetime():
            return f"'{value.isoformat()}'"
        case UUID() | str():
            return "'" + str(value).replace("'", "''") + "'"
        case list():
            return f"ARRAY[{', '.join(map(literal, value))}]"
    raise AssertionError(value)


async def explained(
    sql: asyncpg.Connection, statements: Mapping[str, str], name: str, arguments: list[object], times: int
) -> Read:
    """The plan of a statement that was run so often: in time the server may keep one plan for all arguments."""
    given = ", ".join(map(literal, arguments))
    if not await sql.fetchval("SELECT EXISTS (SELECT FROM pg_prepared_statements WHERE name = $1)", name):
        await sql.execute(f"PREPARE {name} AS {statements[name]}")
    for _ in range(times):
        await sql.execute(f"EXECUTE {name} ({given})")
    text = await sql.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {name} ({given})")
    top = json.loads(text)[0]["Plan"]
    indexes: set[str] = set()
    kinds: set[str] = set()
    rows = 0

    def look(node: dict[str, Any]) -> None:
        nonlocal rows
        if node is not top:
            kinds.add(node["Node Type"])
        if node["Node Type"] == "Seq Scan":
            indexes.add("none")
        if "Index Name" in node:
            indexes.add(node["Index Name"])
        if "Relation Name" in node:
            thrown_away = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            rows += round((node["Actual Rows"] + thrown_away) * node["Actual Loops"])
        for child in node.get("Plans", ()):
            look(child)

    look(top)
    return Read(indexes, rows, top["Shared Hit Blocks"] + top["Shared Read Blocks"], kinds)
