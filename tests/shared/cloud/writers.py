"""What must hold of putting by versions and of moving at every provider, run by each provider's own tests.

Inherit `WritersContract` where a fixture `provider` gives the port to an empty root.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from shared.cloud.errors import NameTaken
from shared.cloud.hashes import digest_of
from shared.cloud.local_provider import LocalProvider
from shared.cloud.moving import Mover
from shared.cloud.provider import Provider
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_source import BytesContent
from shared.cloud.upload_rows import RowJournal
from shared.cloud.versioned_put import VersionedPut
from shared.store.pool import Pool, open_pool
from tests.shared.cloud.contract import listed, read

__all__ = ["WritersContract"]

WRITERS = 200
LARGE = 12 * 1024 * 1024 + 5
"""More than goes in one request anywhere, and more than one part."""


class WritersContract:
    """Inherit, and give `provider`."""

    @pytest.fixture
    async def names(self, database_url: str) -> AsyncIterator[Pool]:
        opened = await open_pool(database_url, name="writers", max_size=8, acquire_timeout_s=50)
        yield opened
        await opened.close()

    @pytest.fixture
    async def transfer(self) -> AsyncIterator[Transfer]:
        made = Transfer(rand=Random(1))
        yield made
        await made.close()

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> LocalProvider:
        (tmp_path / "elsewhere").mkdir()
        return LocalProvider(tmp_path / "elsewhere", tmp_path / "aside", name="elsewhere")

    @pytest.mark.timeout(120)
    async def test_two_hundred_writers_of_one_name_make_two_hundred_versions_and_lose_no_byte(
        self, provider: Provider, names: Pool, transfer: Transfer
    ) -> None:
        put = VersionedPut(names, transfer, RowJournal(names))
        rand = Random(4)
        contents = [b"%d " % n + rand.randbytes(rand.randrange(2_000)) for n in range(WRITERS)]
        made = await asyncio.gather(
            *(put.put(provider, "Responses/truck-7/photo.jpg", BytesContent(content)) for content in contents)
        )
        assert sorted(one.version for one in made) == list(range(1, WRITERS + 1))
        wanted = {"Responses/truck-7/photo.jpg"}
        wanted |= {f"Responses/truck-7/photo (v{n}).jpg" for n in range(2, WRITERS + 1)}
        assert set(await listed(provider, "Responses")) == wanted
        for one, content in zip(made, contents, strict=True):
            assert await read(provider, one.path) == content
        again = await put.put(provider, "Responses/truck-7/photo.jpg", BytesContent(contents[7]))
        assert (again.path, again.existed) == (made[7].path, True)

    async def test_an_object_moves_within_the_store_and_to_another_and_back(
        self, provider: Provider, names: Pool, transfer: Transfer, elsewhere: LocalProvider
    ) -> None:
        mover = Mover(names, transfer, RowJournal(names))
        content = Random(5).randbytes(LARGE)
        await transfer.put(provider, "In/a b.bin", BytesContent(content), expect=digest_of(content))
        here = await mover.move(provider, "In/a b.bin", provider, "Archive/2026/a.bin")
        assert (here.path, here.size, here.by_store) == ("Archive/2026/a.bin", LARGE, True)
        assert list(await listed(provider)) == ["Archive/2026/a.bin"]
        there = await mover.move(provider, "Archive/2026/a.bin", elsewhere, "a.bin")
        assert (there.sha256, there.by_store) == (digest_of(content).sha256, False)
        assert not await listed(provider)
        assert await read(elsewhere, "a.bin") == content
        await mover.move(elsewhere, "a.bin", provider, "Back/a.bin")
        assert not await listed(elsewhere)
        assert await read(provider, "Back/a.bin") == content
        again = await mover.move(elsewhere, "a.bin", provider, "Back/a.bin")
        assert again.path == "Back/a.bin"
        await elsewhere.put_new("a.bin", b"another")
        with pytest.raises(NameTaken):
            await mover.move(elsewhere, "a.bin", provider, "Back/a.bin")
        assert await read(provider, "Back/a.bin") == content
        assert await read(elsewhere, "a.bin") == b"another"
        await elsewhere.close()
