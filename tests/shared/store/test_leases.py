"""Leases: one owner, terms that only rise, and late calls that change nothing."""

import asyncio

import pytest

from shared.store import leases
from shared.store.errors import TermOver
from shared.store.pool import Pool


@pytest.fixture(autouse=True)
async def names(pool: Pool) -> list[str]:
    await leases.ensure(pool, ["a", "b", "c"])
    return ["a", "b", "c"]


async def test_a_free_lease_is_claimed_once_and_each_claim_raises_the_term(pool: Pool, names: list[str]) -> None:
    claims = await asyncio.gather(*(leases.claim(pool, names, f"w{n}", ttl_s=30, limit=9) for n in range(5)))
    assert sorted(name for claim in claims for name in claim) == names
    owner = next(f"w{n}" for n, claim in enumerate(claims) if "a" in claim)
    await leases.release(pool, owner, {"a": 1})
    assert await leases.claim(pool, names, "w9", ttl_s=30, limit=9) == {"a": 2}


async def test_a_claim_takes_no_more_than_its_limit(pool: Pool, names: list[str]) -> None:
    assert len(await leases.claim(pool, names, "w", ttl_s=30, limit=2)) == 2


async def test_an_expired_lease_is_its_owners_until_somebody_takes_it(pool: Pool, names: list[str]) -> None:
    assert await leases.claim(pool, ["a"], "w1", ttl_s=0, limit=1) == {"a": 1}
    assert await leases.renew(pool, "w1", {"a": 1}, ttl_s=0) == {"a"}
    assert await leases.claim(pool, ["a"], "w2", ttl_s=30, limit=1) == {"a": 2}
    assert await leases.renew(pool, "w1", {"a": 1}, ttl_s=30) == set()


async def test_a_late_call_of_an_old_term_changes_nothing(pool: Pool, names: list[str]) -> None:
    await leases.claim(pool, ["a"], "w1", ttl_s=0, limit=1)
    await leases.claim(pool, ["a"], "w1", ttl_s=30, limit=1)
    await leases.release(pool, "w1", {"a": 1})
    assert await leases.renew(pool, "w1", {"a": 1}, ttl_s=30) == set()
    (holder,) = await leases.holders(pool, ["a"])
    assert (holder.owner, holder.term) == ("w1", 2)
    assert holder.remaining_s > 20


async def test_an_effect_under_an_old_term_is_refused(pool: Pool, names: list[str]) -> None:
    await leases.claim(pool, ["a"], "w1", ttl_s=0, limit=1)
    await leases.claim(pool, ["a"], "w2", ttl_s=30, limit=1)
    with pytest.raises(TermOver, match="a: term 1"):
        async with pool.transaction() as connection:
            await leases.fence(connection, "a", 1)


async def test_while_an_effect_is_being_committed_nobody_claims_and_renewal_does_not_wait(
    pool: Pool, names: list[str]
) -> None:
    await leases.claim(pool, ["a"], "w1", ttl_s=0, limit=1)
    async with pool.transaction() as connection:
        await leases.fence(connection, "a", 1)
        assert await leases.claim(pool, ["a"], "w2", ttl_s=30, limit=1) == {}
        async with asyncio.timeout(1):
            assert await leases.renew(pool, "w1", {"a": 1}, ttl_s=0) == {"a"}
    assert await leases.claim(pool, ["a"], "w2", ttl_s=30, limit=1) == {"a": 2}
