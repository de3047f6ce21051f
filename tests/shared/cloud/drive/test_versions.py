"""Names that count on, at Google Drive: where nothing but the claims keeps two files of one name apart."""

import asyncio

from loadtests.emulators.drive import DriveEmulator
from shared.cloud.transfer import Transfer
from shared.cloud.transfer_journal import Forgetful
from shared.cloud.transfer_source import BytesContent
from shared.cloud.versioned_put import Placed, VersionedPut
from tests.shared.cloud.drive.account import Account

PATH = "Responses/truck-7/photo.jpg"


async def test_two_hundred_writers_of_one_name_make_two_hundred_files_in_a_row(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    providers = [account.provider(root) for _ in range(3)]
    engine = Transfer()
    put = VersionedPut(account.pool, engine, Forgetful())
    # As many at once as one process lets.
    at_once = asyncio.Semaphore(50)

    async def write(number: int) -> Placed:
        async with at_once:
            return await put.put(providers[number % 3], PATH, BytesContent(b"%d" % number))

    try:
        made = await asyncio.gather(*(write(number) for number in range(200)))
    finally:
        await engine.close()
    assert sorted(one.version for one in made) == list(range(1, 201))
    folder = drive.corpus.children(drive.folder("Fleet/Responses/truck-7"))
    assert len(folder) == 200
    held = {one.name: drive.content(one.id) for one in folder}
    assert {one.path.rpartition("/")[2]: b"%d" % n for n, one in enumerate(made)} == held
