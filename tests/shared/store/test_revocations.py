"""Revocations: known at once, lasting, listed, forgotten when the token is over anyway."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.store import revocations
from shared.store.errors import TokenIdTaken
from shared.store.pool import Pool
from shared.store.revocations import Presented, page, revoke_device, revoke_token, revoked
from tests.shared.store.samples import make_devices

NOW = datetime.now(UTC)
LATER = NOW + timedelta(hours=1)


async def test_a_device_is_revoked_up_to_now_and_that_never_goes_back(pool: Pool) -> None:
    await make_devices(pool, "a")
    first = await revoke_device(pool, "a")
    assert first is not None
    assert abs(first - datetime.now(UTC)) < timedelta(minutes=1)
    assert await revoke_device(pool, "a", issued_before=NOW - timedelta(days=1)) == first
    # Never into the future either: a device could not come in with any token until then.
    second = await revoke_device(pool, "a", issued_before=NOW + timedelta(days=1))
    assert second is not None
    assert first <= second < LATER
    assert await revoke_device(pool, "nobody") is None


async def test_what_is_revoked_is_told_apart_in_one_statement(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    since = await revoke_device(pool, "a")
    assert since is not None
    await revoke_token(pool, "t1", subject="b", reason="lost", expires_at=LATER)
    at = since.timestamp()
    bad = [
        Presented("a", "a", at - 1, None), Presented("a", "a", None, "x"),
        Presented("b", "b", at, "t1"), Presented("b", None, at, "t1"),
    ]  # fmt: skip
    good = [
        Presented("a", "a", at + 1, "t1"), Presented("a", None, at - 1, "t1"),
        Presented("b", "b", None, None), Presented("nobody", "nobody", None, "t2"),
    ]  # fmt: skip
    assert await revoked(pool, [*good, *bad]) == set(bad)
    assert await revoked(pool, []) == set()


async def test_a_token_revoked_twice_is_revoked_once_and_as_long_as_the_longer(pool: Pool) -> None:
    first = await revoke_token(pool, "t1", subject="a", reason="lost", expires_at=LATER)
    again = await revoke_token(pool, "t1", subject="a", reason="other", expires_at=NOW)
    assert first.made
    assert first.expires_at <= again.expires_at
    assert again == first._replace(made=False, expires_at=again.expires_at)
    far = LATER + timedelta(days=1000)
    assert (await revoke_token(pool, "t1", subject="a", reason="other", expires_at=far)).expires_at == far
    assert (await revoke_token(pool, "t1", subject="a", reason="other", expires_at=NOW)).expires_at == far
    together = await asyncio.gather(
        *(revoke_token(pool, "t2", subject="a", reason="r", expires_at=LATER) for _ in range(5))
    )
    assert sum(one.made for one in together) == 1


async def test_a_revocation_outlasts_every_token_whatever_end_was_given(pool: Pool) -> None:
    soon = await revoke_token(pool, "t1", subject="a", reason="r", expires_at=NOW + timedelta(seconds=1))
    assert soon.expires_at > NOW + timedelta(days=366)
    far = NOW + timedelta(days=1000)
    assert (await revoke_token(pool, "t2", subject="a", reason="r", expires_at=far)).expires_at == far


async def test_two_subjects_may_have_tokens_of_the_same_id(pool: Pool) -> None:
    first = await revoke_token(pool, "t1", subject="a", reason="r", expires_at=None)
    second = await revoke_token(pool, "t1", subject="b", reason="s", expires_at=None)
    assert (first.made, second.made) == (True, True)
    assert not (await revoke_token(pool, "t1", subject="b", reason="s", expires_at=None)).made


async def test_beside_the_release_before_an_id_is_revoked_for_one_subject_only(pool: Pool) -> None:
    await pool.fetch("CREATE UNIQUE INDEX as_before ON revoked_tokens (token_id)")
    await revoke_token(pool, "t1", subject="a", reason="r", expires_at=None)
    with pytest.raises(TokenIdTaken):
        await revoke_token(pool, "t1", subject="b", reason="s", expires_at=None)


async def test_the_list_is_newest_first_and_pages_without_gap_or_repetition(pool: Pool) -> None:
    await make_devices(pool, "a", "b")
    for number in range(5):
        await revoke_token(pool, f"t{number}", subject="a" if number % 2 else "ops", reason="r", expires_at=LATER)
    await revoke_device(pool, "a")
    whole = [row.key for row in await page(pool, before=None, subject=None, limit=100)]
    assert whole == ["a", "t4", "t3", "t2", "t1", "t0"]
    seen, before = [], None
    while rows := await page(pool, before=before, subject=None, limit=2):
        seen += [row.key for row in rows]
        before = rows[-1].revoked_at, rows[-1].key
    assert seen == whole
    assert [row.key for row in await page(pool, before=None, subject="a", limit=9)] == ["a", "t3", "t1"]


async def test_a_revocation_is_forgotten_once_its_token_is_over(pool: Pool) -> None:
    for number in range(7):
        await revoke_token(pool, f"old{number}", subject="a", reason="r", expires_at=None)
    await pool.fetch("UPDATE revoked_tokens SET expires_at = $1", NOW - timedelta(hours=1))
    await revoke_token(pool, "new", subject="a", reason="r", expires_at=LATER)
    assert await revocations.prune(pool, rows=3) == 7
    assert [row.key for row in await page(pool, before=None, subject=None, limit=9)] == ["new"]
