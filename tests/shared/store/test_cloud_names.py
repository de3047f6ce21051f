import asyncio
from random import Random

from shared.cloud.hashes import Digest, digest_of
from shared.store import cloud_names
from shared.store.cloud_names import Version
from shared.store.pool import Pool


async def claim(pool: Pool, name: str, content: bytes, *, ttl_s: float = 60, folder: str = "Requests/a") -> Version:
    return await cloud_names.claim(pool, "local", folder, name, digest_of(content), ttl_s=ttl_s)


async def lapse(pool: Pool, name: str) -> None:
    await pool.fetch("UPDATE cloud_names SET claimed_until = '-infinity' WHERE name = $1", name)


async def test_two_hundred_writers_of_one_name_get_contiguous_versions(pool: Pool) -> None:
    order = list(range(200))
    Random(5).shuffle(order)
    made = await asyncio.gather(*(claim(pool, "photo.jpg", b"%d" % n) for n in order))
    assert sorted(version.number for version in made) == list(range(1, 201))
    assert {version.name for version in made} == {"photo.jpg", *(f"photo (v{n}).jpg" for n in range(2, 201))}


async def test_the_same_content_has_one_version_whoever_brings_it_and_when(pool: Pool) -> None:
    made = await asyncio.gather(*(claim(pool, "photo.jpg", b"%d" % (n % 3)) for n in range(12)))
    assert sorted({version.number for version in made}) == [1, 2, 3]
    await cloud_names.found(pool, "local", "Requests/a", made[0].name, digest_of(b"0"))
    assert await claim(pool, "photo.jpg", b"0") == made[0]._replace(stored=True)


async def test_a_claim_that_came_to_nothing_gives_its_number_to_the_next(pool: Pool) -> None:
    await claim(pool, "a.txt", b"1")
    lost = await claim(pool, "a.txt", b"2")
    await claim(pool, "a.txt", b"3")
    await lapse(pool, lost.name)
    assert (await claim(pool, "a.txt", b"4")).number == 2
    assert (await claim(pool, "a.txt", b"2")).number == 4, "and who comes back late counts on"


async def test_a_claim_that_is_renewed_does_not_lapse(pool: Pool) -> None:
    mine = await claim(pool, "a.txt", b"1")
    await lapse(pool, mine.name)
    await cloud_names.renew(pool, "local", "Requests/a", mine.name, digest_of(b"1"), ttl_s=60)
    assert (await claim(pool, "a.txt", b"2")).number == 2


async def test_only_the_content_that_claimed_renews(pool: Pool) -> None:
    mine = await claim(pool, "a.txt", b"1")
    await lapse(pool, mine.name)
    await cloud_names.renew(pool, "local", "Requests/a", mine.name, digest_of(b"2"), ttl_s=60)
    assert (await claim(pool, "a.txt", b"2")).number == 1


async def test_what_was_found_under_a_name_is_never_given_out_again(pool: Pool) -> None:
    mine = await claim(pool, "a.txt", b"1")
    await cloud_names.found(pool, "local", "Requests/a", mine.name, None)
    await lapse(pool, mine.name)
    assert [(await claim(pool, "a.txt", b"1")).number, (await claim(pool, "a.txt", b"2")).number] == [2, 3]


async def test_names_that_some_store_takes_for_one_share_a_count_and_folders_do_not(pool: Pool) -> None:
    assert (await claim(pool, "Photo.jpg", b"1")).name == "Photo.jpg"
    assert (await claim(pool, "photo.jpg", b"2")).name == "photo (v2).jpg"
    assert (await claim(pool, "photo.jpg", b"2", folder="Requests/b")).number == 1
    assert (await claim(pool, "photo.jpg", b"2", folder="")).number == 1


async def test_a_number_whose_name_begins_another_series_is_passed_over(pool: Pool) -> None:
    assert (await claim(pool, "x (v2).jpg", b"0")).number == 1
    assert [(await claim(pool, "x.jpg", b"%d" % n)).name for n in range(1, 4)] == ["x.jpg", "x (v3).jpg", "x (v4).jpg"]
    assert (await claim(pool, "x (v2).jpg", b"9")).name == "x (v2) (v2).jpg"


async def test_a_name_claimed_alone_stays_with_who_came_first(pool: Pool) -> None:
    made = await asyncio.gather(
        *(cloud_names.claim_alone(pool, "drive", "id:F", "A.txt", f"o{n}", ttl_s=60) for n in range(20))
    )
    assert len({holder.object_id for holder in made}) == 1
    first = made[0]
    assert (first.stored, first.number, first.size) == (False, None, None)
    await cloud_names.found(pool, "drive", "id:F", "a.txt", Digest(3, "0" * 64))
    again = await cloud_names.claim_alone(pool, "drive", "id:F", "a.TXT", "other", ttl_s=60)
    assert again == first._replace(stored=True, size=3, sha256="0" * 64)
    await cloud_names.release(pool, "drive", "id:F", "a.txt", object_id="other")
    assert (await cloud_names.claim_alone(pool, "drive", "id:F", "a.txt", "o", ttl_s=60)).object_id == first.object_id
    await cloud_names.release(pool, "drive", "id:F", "a.txt", object_id=first.object_id)
    assert (await cloud_names.claim_alone(pool, "drive", "id:F", "a.txt", "o", ttl_s=60)).object_id == "o"


async def test_only_old_claims_at_the_end_of_a_series_are_forgotten(pool: Pool) -> None:
    for number in range(4):
        await claim(pool, "a.txt", b"%d" % number)
    await claim(pool, "young.txt", b"")
    for name in ("a (v2).txt", "a (v4).txt"):
        await lapse(pool, name)
    assert await cloud_names.forget(pool, older_than_s=3600) == 1
    assert await cloud_names.forget(pool, older_than_s=3600) == 0
    assert sorted([(await claim(pool, "a.txt", b"%d" % n)).number for n in range(7, 9)]) == [2, 4]


async def test_a_name_claimed_alone_goes_from_one_object_to_another_only_by_who_has_it(pool: Pool) -> None:
    where = (pool, "drive", "id:folder", "a.txt")
    assert await cloud_names.holder_of(*where) is None
    assert (await cloud_names.claim_alone(*where, "one", ttl_s=60)).object_id == "one"
    assert not await cloud_names.replace(*where, old="other", new="two", ttl_s=60)
    assert await cloud_names.settle(*where, "one")
    assert await cloud_names.replace(*where, old="one", new="two", ttl_s=60)
    holder = await cloud_names.holder_of(*where)
    assert holder is not None
    assert (holder.object_id, holder.stored, holder.lapsed) == ("two", False, False)
    assert not await cloud_names.settle(*where, "one"), "who lost the name is told"
    await lapse(pool, "a.txt")
    holder = await cloud_names.claim_alone(*where, "three", ttl_s=60)
    assert (holder.object_id, holder.lapsed) == ("two", True)
    assert await cloud_names.settle(*where, "two")
    holder = await cloud_names.holder_of(*where)
    assert holder is not None
    assert (holder.stored, holder.lapsed) == (True, False)
