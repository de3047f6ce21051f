import asyncio
from typing import Any
from uuid import UUID, uuid4

from shared.store import photos
from shared.store.photos import Full, NewPhoto, PhotoRow
from shared.store.pool import Pool


def new(principal: str = "device:a", photo_id: UUID | None = None, **changes: Any) -> NewPhoto:
    made = NewPhoto(
        photo_id or uuid4(), principal, None, "local", f"Photos/{uuid4()}", "a.jpg", "image/jpeg", 1, "a" * 64, None
    )
    return made._replace(**changes)


async def reserve(pool: Pool, photo: NewPhoto, *, pending_max: int = 10) -> tuple[PhotoRow, bool] | Full:
    return await photos.reserve(pool, photo, pending_max=pending_max, pending_s=60)


async def made(pool: Pool, photo: NewPhoto) -> tuple[PhotoRow, bool]:
    found = await reserve(pool, photo)
    assert not isinstance(found, Full)
    return found


async def test_a_photo_is_reserved_once_and_keeps_its_key(pool: Pool) -> None:
    first, is_new = await made(pool, new())
    assert (is_new, first.status) == (True, "pending")
    again, is_new = await made(pool, new(photo_id=first.photo_id))
    assert (is_new, again.object_key) == (False, first.object_key)
    assert again.expires_at > first.expires_at, "its time begins anew"
    other, _ = await made(pool, new("device:b", photo_id=first.photo_id))
    assert (other.principal, other.expires_at) == ("device:a", again.expires_at)


async def test_only_the_same_request_of_the_same_principal_is_the_same_photo(pool: Pool) -> None:
    photo = new()
    row, _ = await made(pool, photo)
    assert row.is_of(photo._replace(object_key="another", store="s3"))
    for changes in ({"principal": "device:b"}, {"name": "b"}, {"size": 2}, {"sha256": "b" * 64}, {"md5": "b" * 32}):
        assert not row.is_of(photo._replace(**changes))


async def test_the_bound_holds_for_each_principal_also_at_once(pool: Pool) -> None:
    tries = [reserve(pool, new(principal), pending_max=3) for principal in ("device:a", "device:b") for _ in range(10)]
    found = await asyncio.gather(*tries)
    for own in (found[:10], found[10:]):
        assert sum(isinstance(one, Full) for one in own) == 7
    full = next(one for one in found if isinstance(one, Full))
    assert 0 < full.seconds <= 60


async def test_what_is_stored_or_expired_counts_no_more(pool: Pool) -> None:
    row, _ = await made(pool, new())
    assert isinstance(await reserve(pool, new(), pending_max=1), Full)
    adopted = await photos.adopt(pool, row.photo_id)
    assert adopted is not None
    assert (adopted.status, adopted.confirmed_at is not None) == ("stored", True)
    assert not isinstance(await reserve(pool, new(), pending_max=1), Full)
    again = await photos.adopt(pool, row.photo_id)
    assert again == adopted, "once, whoever asks"


async def test_a_photo_that_is_put_off_is_not_due(pool: Pool) -> None:
    await photos.reserve(pool, new(), pending_max=1, pending_s=0)
    assert await photos.expire(pool, limit=5) == 1
    due = await photos.expired(pool, limit=5)
    await photos.put_off(pool, due, seconds=60)
    assert await photos.expired(pool, limit=5) == []
    assert await photos.forget(pool, due) == 1
    assert await photos.get(pool, due[0].photo_id) is None


async def test_nothing_that_is_pending_or_stored_is_forgotten(pool: Pool) -> None:
    rows = [(await made(pool, new()))[0] for _ in range(2)]
    await photos.adopt(pool, rows[0].photo_id)
    assert await photos.forget(pool, rows) == 0
