"""Whose a name is: the claim in Postgres, against what really lies there."""

import asyncio

import pytest

from loadtests.emulators.drive import DriveEmulator
from shared.cloud.drive import names
from shared.cloud.drive.names import PostgresClaims
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.errors import NameTaken, StoreBusy
from shared.cloud.hashes import digest_of
from shared.cloud.store import Existed, Stored
from tests.shared.cloud.drive.account import Account


async def lapse(account: Account) -> None:
    await account.pool.fetch("UPDATE cloud_names SET claimed_until = '-infinity' WHERE store = $1", account.store)


async def test_a_name_that_an_object_is_on_its_way_to_is_taken_until_the_claim_lapses(
    account: Account, provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    moving = drive.put("moving.txt", b"x", parent=drive.folder("Elsewhere"))
    await PostgresClaims(account.pool, account.store).claim(root, "a.txt", moving.id)
    await provider.put_new("b.txt", b"b")
    with pytest.raises(NameTaken):
        await provider.put_new("a.txt", b"a")
    with pytest.raises(NameTaken):
        await provider.move("b.txt", "a.txt")
    await lapse(account)
    assert isinstance(await provider.put_new("a.txt", b"a"), Stored)


async def test_who_wakes_up_after_its_claim_was_given_away_takes_its_file_back(
    account: Account, provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    await provider.put_new("from/b.txt", b"late")
    claims = PostgresClaims(account.pool, account.store)
    late = account.provider(root)
    moved = asyncio.Event()
    update = late._client.update

    async def stopped_before_it_moves(*arguments: object, **named: object) -> object:
        if not moved.is_set():
            moved.set()
            # For longer than a claim stands.
            await lapse(account)
            assert isinstance(await provider.put_new("a.txt", b"quicker"), Stored)
        return await update(*arguments, **named)  # type: ignore[arg-type]

    late._client.update = stopped_before_it_moves  # type: ignore[method-assign, assignment]
    with pytest.raises(NameTaken):
        await late.move("from/b.txt", "a.txt")
    assert [one.name for one in drive.corpus.children(root) if one.name == "a.txt"] == ["a.txt"]
    assert (await provider.content("a.txt"))[1] == digest_of(b"quicker")
    assert (await provider.content("from/b.txt"))[1] == digest_of(b"late")
    holder = await claims.holder(root, "a.txt")
    assert holder is not None
    assert holder.stored


async def test_too_many_claims_at_once_are_told_so_and_leave_connections_for_others(
    account: Account, root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(names, "_TURN_S", 0.01)
    claims = PostgresClaims(account.pool, account.store, at_once=1)
    async with claims._turn():
        with pytest.raises(StoreBusy):
            await claims.holder(root, "a.txt")
    assert await claims.holder(root, "a.txt") is None


async def test_an_id_that_was_used_up_is_replaced(
    account: Account, provider: DriveProvider, drive: DriveEmulator
) -> None:
    """Somebody made the object that was claimed, and removed it at once: the id can never be used again."""
    await provider.put_new("a.txt", b"first")
    found = await provider.look("a.txt")
    assert found is not None
    drive.delete(found.object_id)
    await account.pool.fetch("UPDATE cloud_names SET state = 'claimed' WHERE store = $1", account.store)
    assert isinstance(await provider.put_new("a.txt", b"second"), Stored)


async def test_a_search_that_does_not_know_a_new_file_yet_hides_none_of_ours(
    account: Account, drive: DriveEmulator, root: str
) -> None:
    drive.corpus.search_lag_s = 3600.0
    provider, another = account.provider(root), account.provider(root)
    assert isinstance(await provider.put_new("Responses/truck-7/a.txt", b"x"), Stored)
    assert isinstance(await another.put_new("Responses/truck-7/a.txt", b"x"), Existed)
    assert await another.look("Responses/truck-7/a.txt") == await provider.look("Responses/truck-7/a.txt") is not None
    assert isinstance(await provider.put_new("Responses/truck-7/a.txt", b"y"), Existed)
    assert len(drive.corpus.children(drive.folder("Fleet/Responses/truck-7"))) == 1


async def test_two_folders_with_one_name_are_one_for_us(
    account: Account, provider: DriveProvider, drive: DriveEmulator, root: str
) -> None:
    first = drive.corpus.make("Requests", "application/vnd.google-apps.folder", root)
    drive.clock.advance(1)
    drive.corpus.make("Requests", "application/vnd.google-apps.folder", root)
    for one in (provider, account.provider(root)):
        await one.put_new(f"Requests/{id(one)}.txt", b"x")
    assert len(drive.corpus.children(first.id)) == 2
