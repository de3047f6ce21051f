import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from shared.store import photos
from shared.store.photos import Full, NewPhoto, PhotoRow
from shared.store.pool import Pool
from shared.store.queries import statements

SQL = statements("photos")


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
    adopted = await photos.adopt(pool, row.photo_id, row.object_key)
    assert adopted is not None
    assert (adopted.status, adopted.confirmed_at is not None) == ("stored", True)
    assert not isinstance(await reserve(pool, new(), pending_max=1), Full)
    again = await photos.adopt(pool, row.photo_id, row.object_key)
    assert again == adopted, "once, whoever asks"


async def test_what_was_asked_about_another_key_makes_nothing_stored(pool: Pool) -> None:
    asked = new()
    await photos.reserve(pool, asked, pending_max=9, pending_s=0)
    await photos.expire(pool, limit=1)
    await photos.forget(pool, await photos.expired(pool, limit=1))
    later, _ = await made(pool, new(photo_id=asked.photo_id))
    # Whoever asked the store about the first comes back only now.
    assert await photos.adopt(pool, asked.photo_id, asked.object_key) is None
    assert await photos.get(pool, asked.photo_id) == later


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
    await photos.adopt(pool, rows[0].photo_id, rows[0].object_key)
    assert await photos.forget(pool, rows) == 0


@pytest.fixture
async def crowd(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """20,000 photos, most of them stored and of few inspections, one principal with many pending ones."""
    connection = await asyncpg.connect(database_url)
    await connection.execute(
        """
        INSERT INTO templates (template_id, name, version, body) SELECT gen_random_uuid(), 't', 1, '{}';
        INSERT INTO inspections (inspection_id, inspector_id, template_id, template_version, status, title, answers,
                                 version)
        SELECT gen_random_uuid(), 'truck-' || n, template_id, 1, 'draft', 't', '{}', 1
        FROM generate_series(1, 200) n, templates;
        INSERT INTO photos (photo_id, principal, inspection_id, store, object_key, name, content_type, size, sha256,
                            status, created_at, expires_at)
        SELECT gen_random_uuid(), 'device:truck-' || n % 300, i.ids[1 + (n % 200) * (n % 2)], 'local', 'k' || n,
               'a.jpg', 'image/jpeg', 1, repeat('a', 64),
               CASE WHEN n % 50 = 0 THEN 'pending' WHEN n % 501 = 0 THEN 'expired' ELSE 'stored' END,
               now() - n * interval '1 s', now() - (n - 5000) * interval '1 s'
        FROM generate_series(1, 20000) n, (SELECT array_agg(inspection_id) AS ids FROM inspections) i
        """
    )
    await connection.execute("ANALYZE photos")
    yield connection
    await connection.close()


async def indexes(crowd: asyncpg.Connection, name: str, *arguments: Any) -> set[str]:
    """Those that the statement reads `photos` by; a walk over the table itself is named so."""
    found: set[str] = set()

    def walk(node: dict[str, Any]) -> None:
        if node.get("Relation Name") == "photos" and node["Node Type"] == "Seq Scan":
            found.add("the table itself")
        if "Index Name" in node:
            found.add(node["Index Name"])
        for inner in node.get("Plans", ()):
            walk(inner)

    async with crowd.transaction():
        plan = await crowd.fetchval(f"EXPLAIN (FORMAT JSON) {SQL[name]}", *arguments)
        walk(json.loads(plan)[0]["Plan"])
    return {one for one in found if one.startswith(("photos", "the table"))}


async def test_every_question_is_answered_by_an_index(crowd: asyncpg.Connection) -> None:
    row = await crowd.fetchrow("SELECT * FROM photos WHERE status = 'stored' AND inspection_id IS NOT NULL LIMIT 1")
    photo_id, inspection = row["photo_id"], row["inspection_id"]
    reserve_with = (*new("device:truck-0"), 60.0, 100)
    assert await indexes(crowd, "by_id", photo_id) == {"photos_pkey"}
    # Either finds one row among the few that a principal may have pending.
    assert await indexes(crowd, "renew", photo_id, "device:truck-0", 60.0) <= {
        "photos_pkey",
        "photos_principal_pending",
    }
    assert await indexes(crowd, "adopt", photo_id, row["object_key"]) == {"photos_pkey"}
    assert await indexes(crowd, "reserve", *reserve_with) == {"photos_principal_pending"}
    assert await indexes(crowd, "first_expiry", "device:truck-0") == {"photos_principal_pending"}
    assert await indexes(crowd, "page", inspection, None, None, 100) == {"photos_inspection"}
    assert await indexes(crowd, "page", inspection, row["created_at"], photo_id, 100) == {"photos_inspection"}
    assert await indexes(crowd, "expire", 200) <= {"photos_pending", "photos_pkey"}
    assert await indexes(crowd, "expired", 200) == {"photos_expired"}
    assert await indexes(crowd, "forget", ["local"], ["k1"]) == {"photos_store_object_key_key"}
    assert await indexes(crowd, "put_off", [photo_id], 1.0) <= {"photos_pkey", "photos_expired"}
