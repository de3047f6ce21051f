"""A delta feed of many items that forgets its token: what a full run costs, and that it loses nothing (on demand).

    python -m loadtests.graph_resync [--items 100000] [--page 200]

An emulated Graph in a process of its own has the items. They are read once; then some come, some go, some are renamed,
and every token dies. The run over everything that follows is compared with what is there: nothing lost, nothing told
that is gone, no version but the newest. Prints requests, resource units, seconds and memory; results in
results/graph_resync.json. Ends with 0 when nothing was wrong and memory stayed within its bound.
"""

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from loadtests.process import resident_bytes, start_python
from shared.cloud.errors import CursorExpired
from shared.cloud.graph.auth import AppTokens, Secret
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.http import HttpClient
from shared.cloud.provider import Changed, ChangePage

__all__ = ["resync"]

RESULTS: Final = Path(__file__).parent / "results"
MEMORY_MAX: Final = 16 * 1024 * 1024
_FOLDERS: Final = 1000


class Scene:
    """The provider, and the emulator's other side."""

    def __init__(self, provider: GraphProvider, control: httpx.AsyncClient, url: str) -> None:
        self.provider = provider
        self._control = control
        self._url = url

    async def order(self, **orders: Any) -> dict[str, Any]:
        """Tell the emulator; how things stand there."""
        answer = await self._control.post(f"{self._url}/control", json=orders, timeout=300)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def run(self, cursor: str | None) -> AsyncIterator[ChangePage]:
        """Pages until there is no more."""
        while True:
            page = await self.provider.changes(cursor)
            yield page
            cursor = page.cursor
            if not page.more:
                return


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    """An emulator of its own."""
    process = start_python("loadtests.emulators.graph")
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        http = HttpClient()
        tokens = AppTokens(
            http,
            login_url=told["url"],
            tenant=told["tenant"],
            client_id=told["client_id"],
            proof=Secret(told["client_secret"]),
            scope=f"{told['url']}/.default",
        )
        client = GraphClient(http, tokens, url=told["url"], store="sharepoint")
        async with httpx.AsyncClient(trust_env=False) as control:
            yield Scene(GraphProvider(client, told["drive"], "", name="sharepoint", who="bench"), control, told["url"])
        await http.close()
    finally:
        process.kill()
        process.communicate()


async def resync(items: int, page: int) -> dict[str, Any]:
    """The figures, and in `problems` what was wrong."""
    async with scene() as here:
        await here.order(manners={"page_size": page, "repeat_rows": 0.02, "empty_page_every": 50})
        await here.order(fill={"folder": "Requests", "count": items, "folders": min(_FOLDERS, items)})
        ledger: dict[str, str | None] = {}
        cursor = ""
        async for one in here.run(None):
            cursor = one.cursor
            ledger |= {
                row.item_id: row.version for row in one.changes if isinstance(row, Changed) and row.kind == "file"
            }
        problems = [] if len(ledger) == items else [f"the first run told {len(ledger)} of {items} files"]

        part = max(1, items // 100)
        await here.order(fill={"folder": "Requests", "count": part, "first": items, "folders": min(_FOLDERS, items)})
        for number in range(10):
            await here.order(rename={"path": f"Requests/truck-{number}", "to": f"Requests/moved-{number}"})
        gone = [f"Requests/truck-{number}/{number:07}.txt" for number in range(20, 20 + min(part, 50))]
        for path in gone:
            await here.order(remove=path)
        before = await here.order(expire_tokens=True)
        restart: str | None = None
        try:
            await here.provider.changes(cursor)
            problems.append("a token that died was taken")
        except CursorExpired as error:
            restart = error.restart
        if restart is None:
            problems.append("it was not said where to begin anew")

        base = peak = resident_bytes(os.getpid())
        began, told, rows = time.perf_counter(), set[str](), 0
        async for one in here.run(restart):
            rows += len(one.changes)
            told |= {row.item_id for row in one.changes if isinstance(row, Changed) and row.kind == "file"}
            peak = max(peak, resident_bytes(os.getpid()))
        seconds = time.perf_counter() - began
        after = await here.order()
        kept = sys.getsizeof(told) + sum(sys.getsizeof(one) for one in told)
        if len(told) != after["files"]:
            problems.append(f"told were {len(told)} files, there are {after['files']}")
        if len(ledger.keys() - told) != len(gone) or len(told - ledger.keys()) != part:
            problems.append("what came and what is gone is not what was told")
        grown = peak - base - kept
        if grown > MEMORY_MAX:
            problems.append(f"memory grew by {grown / 2**20:.1f} MiB beside the ids")
        return {
            "items": items,
            "page": page,
            "requests": sum(after["calls"].values()) - sum(before["calls"].values()) - 1,
            "units": after["units"] - before["units"],
            "seconds": round(seconds, 2),
            "rows_a_second": round(rows / seconds),
            "rows": rows,
            "memory_grown_mib": round(grown / 2**20, 1),
            "came": part,
            "gone": len(gone),
            "problems": problems,
        }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="A delta feed that forgets its token.")
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--page", type=int, default=200)
    chosen = parser.parse_args(arguments)
    found = asyncio.run(resync(chosen.items, chosen.page))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "graph_resync.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
