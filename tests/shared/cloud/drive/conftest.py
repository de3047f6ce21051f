"""A provider at an emulated Google Drive, with its names in Postgres."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from loadtests.emulators.drive import DriveEmulator, running_drive
from shared.cloud.drive.auth import Tokens, read_key
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.http import HttpClient
from shared.store.pool import Pool, open_pool
from tests.shared.cloud.drive.account import QUICK, Account

_numbers = itertools.count(1)


@pytest.fixture
async def drive(tmp_path: Path) -> AsyncIterator[DriveEmulator]:
    async with running_drive(tmp_path / "drive") as emulator:
        yield emulator


@pytest.fixture(scope="package")
def names_url(_databases: Any) -> Iterator[str]:
    """One database for all: each test has a store of its own."""
    name, url = _databases.make()
    yield url
    _databases.drop(name)


@pytest.fixture
async def pool(names_url: str) -> AsyncIterator[Pool]:
    opened = await open_pool(names_url, name="test", max_size=8, acquire_timeout_s=50)
    yield opened
    await opened.close()


@pytest.fixture
async def account(drive: DriveEmulator, pool: Pool, tmp_path: Path) -> AsyncIterator[Account]:
    http = HttpClient(deadline_s=5.0, policy=QUICK, rand=Random(1))
    key = read_key(drive.account.write_key_file(tmp_path / "key.json", f"{drive.url}/token"))
    yield Account(http, Tokens(http, key, store="drive"), drive.url, pool, f"drive:{next(_numbers)}")
    await http.close()


@pytest.fixture
def root(drive: DriveEmulator) -> str:
    return drive.folder("Fleet")


@pytest.fixture
def provider(account: Account, root: str) -> DriveProvider:
    return account.provider(root)
