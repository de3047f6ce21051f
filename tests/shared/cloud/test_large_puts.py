from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from shared.cloud.errors import StoreUnavailable
from shared.cloud.hashes import digest_of
from shared.cloud.large_puts import LargePuts
from shared.cloud.store import Existed, Stored
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_journal import SidecarJournal
from tests.shared.cloud.plain_provider import UNIT, PlainProvider, Trouble
from tests.shared.cloud.test_transfer import Slept

LARGE = Random(6).randbytes(100 * UNIT)


@pytest.fixture
async def transfer() -> AsyncIterator[Transfer]:
    slept = Slept()
    made = Transfer(part_bytes=16 * UNIT, rand=Random(1), time=slept.time, sleep=slept.sleep)
    yield made
    await made.close()


async def test_a_large_file_goes_in_parts_and_is_gone_on_with_and_all_else_is_the_providers_own(
    transfer: Transfer, tmp_path: Path
) -> None:
    provider = PlainProvider(trouble=lambda c, n: Trouble.DOWN if c == "put_part" and n > 3 else None)
    store = LargePuts(provider, transfer, SidecarJournal(tmp_path / "kept"))
    file = tmp_path / "large"
    file.write_bytes(LARGE)
    with pytest.raises(StoreUnavailable):
        await store.put_new("a/large", file)
    provider.trouble = lambda _call, _number: None
    assert await store.put_new("a/large", file) == Stored(digest_of(LARGE))
    assert provider.calls["begin"] == 1
    assert await store.put_new("a/large", file) == Existed(digest_of(LARGE), digest_of(LARGE))
    file.write_bytes(LARGE[::-1])
    other = await store.put_new("a/large", file, expect=digest_of(LARGE[::-1]))
    assert isinstance(other, Existed)
    assert not other.identical
    file.write_bytes(b"small")
    for source in (file, b"small"):
        await store.put_new("a/small", source)
    assert provider.calls["put_new"] == 2
    found = await store.stat("a/large")
    assert found is not None
    assert found.size == len(LARGE)
    assert (await store.content("a/large"))[1] == digest_of(LARGE)
    async with store.open("a/small") as reader:
        assert [piece async for piece in reader.chunks()] == [b"small"]
    assert await store.remove("a/small")
