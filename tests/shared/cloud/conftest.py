"""A local store in a folder of its own, once by the one call that Linux has and once by walking."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.cloud.local import LocalStore


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cloud"
    folder.mkdir()
    return folder


@pytest.fixture
def tmp(tmp_path: Path) -> Path:
    return tmp_path / "cloud-tmp"


@pytest.fixture(params=["openat2", "walk"])
async def store(request: pytest.FixtureRequest, root: Path, tmp: Path) -> AsyncIterator[LocalStore]:
    opened = LocalStore(root, tmp, allow_openat2=request.param == "openat2")
    yield opened
    await opened.close()
