"""The part of schemathesis that sends the same each time: the examples, and the edges of every schema.

What it draws at random is for `python -m loadtests.schemathesis_run`.
"""

import asyncio
import os
from pathlib import Path

import asyncpg
import pytest

from loadtests.api_scene import draw
from loadtests.schemathesis_run import CONFIG, HOOKS, SETTINGS, command
from tests.api.conftest import StartApi, token

# Somebody who may ask for everything.
SCOPES = "device operator service"


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_edges_of_every_schema_are_answered_as_the_document_says(
    start_api: StartApi, sql: asyncpg.Connection, tmp_path: Path
) -> None:
    api = await start_api(**SETTINGS)
    await draw(sql)
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    arguments = command(
        api.settings.port, token("truck-7", SCOPES), config, "--phases", "examples,coverage", "--seed", "1"
    )
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=tmp_path,
        env=os.environ | HOOKS,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
