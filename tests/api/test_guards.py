"""What an API process never does shows in what it has loaded, in what it answers and in what it still holds."""

import gc
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import api.app
from api.resource import Resource
from infra.openapi import published
from tests.api.conftest import RunningApi, StartApi, http_client, token

_LOADED = "import sys, api.app; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
CALLERS = 60


def test_an_api_process_has_loaded_nothing_that_handles_images_and_no_other_process() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"api", "shared"} <= set(loaded)
    never = {"PIL", "pillow_heif", "itsdangerous", "jinja2", "hub", "watcher", "worker", "files", "device", "infra"}
    assert not never & set(loaded)


def test_no_request_is_answered_by_an_image() -> None:
    types = {
        media_type
        for methods in published()["paths"].values()
        for operation in methods.values()
        for answer in operation["responses"].values()
        for media_type in answer.get("content", {})
    }
    # The plain text is a token of Microsoft Graph, given back to it.
    assert types == {"application/json", "text/plain"}


async def test_nothing_is_kept_of_who_asked(start_api: StartApi, monkeypatch: pytest.MonkeyPatch) -> None:
    tables: list[list[Resource]] = []
    made = api.app.route_table

    def remembered(parts: Any) -> Any:
        tables.append(list(made(parts)))
        return tables[-1]

    monkeypatch.setattr(api.app, "route_table", remembered)
    running = await start_api()
    cookies = await _ask_as_many(running)
    assert cookies == []
    gc.collect()
    kept = {type(holder).__name__: text for holder, text in _reachable_text(tables[0]) if "caller-no-" in text}
    assert kept == {}


def test_the_walk_that_looks_for_what_is_kept_finds_it() -> None:
    async def handle() -> None:
        users["caller-no-1"] = 1

    users: dict[str, int] = {}
    users["caller-no-1"] = 0
    assert any("caller-no-1" in text for _, text in _reachable_text([[handle]]))


async def _ask_as_many(running: RunningApi) -> list[str]:
    """Requests of many callers, each with a key of its own; what cookies were set."""
    cookies = []
    async with http_client(base_url=running.url, timeout=30) as client:
        for number in range(CALLERS):
            caller = f"caller-no-{number}"
            headers = {"Authorization": f"Bearer {token(caller)}", "Idempotency-Key": caller, "X-Request-ID": caller}
            job = {"device_id": caller, "kind": "table", "name": f"{caller}.csv", "data": "a,b"}
            for answer in (
                await client.get(f"/api/v1/devices/{caller}/events", headers=headers),
                await client.post("/api/v1/jobs", headers=headers, json=job),
                await client.get("/api/v1/jobs", headers=headers),
                await client.get(f"/api/v1/devices/{caller}x/events", headers=headers),
            ):
                assert answer.status_code in (200, 201, 403), answer.text
                cookies += answer.headers.get_list("set-cookie")
    return cookies


def _reachable_text(roots: Iterable[Any]) -> Iterator[tuple[Any, str]]:
    """All text in our own objects and in what they hold, with its holder. Drivers and the loop are others' affair."""
    seen: set[int] = set()
    waiting: list[Any] = list(roots)
    while waiting:
        holder = waiting.pop()
        # The collector has no interest in the keys of most dicts, and does not name them.
        for held in (*gc.get_referents(holder), *(holder if isinstance(holder, dict) else ())):
            if isinstance(held, str | bytes):
                yield holder, held if isinstance(held, str) else held.decode("latin-1")
            elif id(held) not in seen and _is_ours(held):
                seen.add(id(held))
                waiting.append(held)


def _is_ours(value: Any) -> bool:
    kind = type(value)
    if kind.__module__ == "builtins":
        return kind.__name__ in (
            "dict",
            "list",
            "set",
            "tuple",
            "frozenset",
            "method",
            "function",
            "cell",
            "mappingproxy",
        )
    return kind.__module__.startswith(("api.", "shared.", "collections", "tests.")) and not isinstance(value, type)
