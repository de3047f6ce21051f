"""A credential that ends before its time: revoked, by the bus or without it, or signed by a key that was retired."""

import asyncio
import base64
import json
import secrets
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from shared.bus.canary_judge import BusState
from shared.bus.message import revocation_message
from shared.store.revocations import revoke_device, revoke_token
from shared.tokens import KeyRing
from tests.hub.conftest import TICKETS, TOKENS, Device, Fleet, StartHub, ticket, token, until

# No sweep by itself: what happens is the bus's doing.
NO_SWEEP = {"FLEETWIRE_HUB_SWEEP_S": "600", "FLEETWIRE_HUB_SWEEP_DOUBT_S": "600"}


def token_with_id(device_id: str, token_id: str) -> str:
    return TOKENS.mint(
        subject=device_id, scopes=frozenset({"device"}), now=time.time(), lifetime_s=600, token_id=token_id
    )


def ticket_of(device_id: str, *, parent: str | None, issued_at: float | None, key_id: str | None = None) -> str:
    now = time.time()
    return TICKETS.mint_ticket(
        subject=device_id,
        token_id=secrets.token_hex(8),
        now=now,
        lifetime_s=60,
        session_expires_at=now + 600,
        parent=parent,
        parent_issued_at=issued_at,
        parent_key_id=key_id,
    )


async def renewal(device: Device, renewed: str) -> dict[str, Any]:
    await device.socket.send(json.dumps({"type": "token", "token": renewed}))
    return await device.frame()


async def test_the_bus_ends_a_connection_at_once_whose_token_is_revoked(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(**NO_SWEEP)
    lost, other = await fleet.new_device(), await fleet.new_device()
    device = await fleet.connect(hub.url, lost, bearer=token_with_id(lost, f"{lost}-1"))
    bystander = await fleet.connect(hub.url, other)
    await device.welcome()
    await bystander.welcome()
    # A bus that is found well makes the hub sweep once.
    await until(lambda: hub.running.canary.state is BusState.OK)
    await until(lambda: hub.running.sweeper.swept >= 1)
    await revoke_token(fleet.pool, f"{lost}-1", subject=lost, reason="lost", expires_at=None)
    fleet.publisher.offer(revocation_message(lost))
    assert await device.close_code() == 4301
    await fleet.record(other)
    assert await bystander.seqs(1) == [1]


async def test_without_the_bus_the_sweep_ends_it(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub()
    for by_ticket in (False, True):
        truck = await fleet.new_device()
        bearer = ticket_of(truck, parent=None, issued_at=time.time()) if by_ticket else token(truck)
        device = await fleet.connect(hub.url, truck, bearer=bearer)
        await device.welcome()
        await revoke_device(fleet.pool, truck)
        assert await device.close_code() == 4301


async def test_a_message_that_nothing_in_postgres_bears_out_ends_nothing(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(**NO_SWEEP)
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    swept = hub.running.sweeper.swept
    fleet.publisher.offer(revocation_message(truck))
    async with asyncio.timeout(10):
        while hub.running.sweeper.swept == swept:
            await asyncio.sleep(0.005)
    await fleet.record(truck)
    assert await device.seqs(1) == [1]


async def test_a_revoked_token_does_not_come_in_and_neither_does_a_ticket_made_for_it(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    issued_at = time.time()
    bearers = [
        token_with_id(truck, f"{truck}-1"),
        ticket_of(truck, parent=f"{truck}-1", issued_at=issued_at),
        token(truck),
        ticket_of(truck, parent=None, issued_at=issued_at),
        ticket_of(truck, parent=None, issued_at=None),
    ]
    await revoke_token(fleet.pool, f"{truck}-1", subject=truck, reason="lost", expires_at=None)
    for bearer in bearers[:2]:
        refused = await fleet.refused(hub.url, truck, bearer=bearer)
        assert (refused.status, refused.problem["type"]) == (401, "urn:fleetwire:problem:unauthorized")
    await revoke_device(fleet.pool, truck)
    for bearer in bearers[2:]:
        assert (await fleet.refused(hub.url, truck, bearer=bearer)).status == 401
    await (await fleet.connect(hub.url, truck, bearer=token(truck))).welcome()


async def test_a_renewal_by_a_revoked_token_is_refused_and_the_old_one_goes_on(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub(**NO_SWEEP)
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    await revoke_token(fleet.pool, f"{truck}-1", subject=truck, reason="lost", expires_at=None)
    for revoked in (
        token_with_id(truck, f"{truck}-1"),
        ticket_of(truck, parent=f"{truck}-1", issued_at=time.time()),
    ):
        answer = await renewal(device, revoked)
        assert (answer["type"], answer["code"]) == ("error", "token_refused")
        assert "revoked" in answer["detail"]
    assert (await renewal(device, token_with_id(truck, f"{truck}-2")))["type"] == "token_ok"
    assert (await renewal(device, ticket(truck)))["type"] == "token_ok"


async def test_a_renewed_connection_outlives_the_revocation_of_what_it_came_with(
    fleet: Fleet, start_hub: StartHub
) -> None:
    hub = await start_hub()
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck, bearer=token_with_id(truck, f"{truck}-old"))
    await device.welcome()
    assert (await renewal(device, token_with_id(truck, f"{truck}-new")))["type"] == "token_ok"
    await revoke_token(fleet.pool, f"{truck}-old", subject=truck, reason="rotated", expires_at=None)
    swept = hub.running.sweeper.swept
    async with asyncio.timeout(10):
        while hub.running.sweeper.swept < swept + 2:
            await asyncio.sleep(0.005)
    await fleet.record(truck)
    assert await device.seqs(1) == [1]


async def test_a_second_token_while_one_is_being_checked_is_told_to_wait(fleet: Fleet, start_hub: StartHub) -> None:
    hub = await start_hub(FLEETWIRE_HUB_GATHER_S="0.3")
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck)
    await device.welcome()
    for _ in range(2):
        await device.socket.send(json.dumps({"type": "token", "token": token(truck)}))
    first, second = await device.frame(), await device.frame()
    assert (first["type"], first["code"]) == ("error", "token_refused")
    assert second["type"] == "token_ok"


def key(kid: str) -> dict[str, str]:
    secret = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode().rstrip("=")
    return {"kty": "oct", "kid": kid, "alg": "HS256", "k": secret}


async def test_a_key_is_added_and_retired_without_a_restart_and_ends_only_what_it_signed(
    fleet: Fleet, start_hub: StartHub, tmp_path: Path
) -> None:
    old, new = key("old"), key("new")
    file = tmp_path / "keys.json"

    def write(*keys: dict[str, str]) -> KeyRing:
        text = json.dumps({"keys": keys})
        beside = file.with_suffix(".new")
        beside.write_text(text)
        beside.rename(file)
        return KeyRing.from_jwks(text)

    def signed(ring: KeyRing, device_id: str) -> str:
        return ring.mint(subject=device_id, scopes=frozenset({"device"}), now=time.time(), lifetime_s=600)

    ring = write(old)
    hub = await start_hub(FLEETWIRE_TOKEN_KEYS="", FLEETWIRE_TOKEN_KEYS_FILE=str(file), FLEETWIRE_KEYS_RELOAD_S="0.05")
    stays, goes, by_ticket = [await fleet.new_device() for _ in range(3)]
    going = await fleet.connect(hub.url, goes, bearer=signed(ring, goes))
    staying = await fleet.connect(hub.url, stays, bearer=signed(ring, stays))
    ticketed = await fleet.connect(
        hub.url, by_ticket, bearer=ticket_of(by_ticket, parent="x", issued_at=time.time(), key_id="old")
    )
    for device in (going, staying, ticketed):
        await device.welcome()
    assert (await fleet.refused(hub.url, stays, bearer=signed(KeyRing.from_jwks(
        json.dumps({"keys": [new]})), stays))).status == 401  # fmt: skip

    both = write(old, new)
    assert both.signing_key_id == "new"
    async with asyncio.timeout(10):
        while (await renewal(staying, signed(both, stays)))["type"] != "token_ok":
            await asyncio.sleep(0.05)

    file.write_text("{")  # half written: nothing changes
    await asyncio.sleep(0.2)
    await fleet.record(goes)
    assert await going.seqs(1) == [1]

    write(new)
    assert await going.close_code() == 4201
    assert await ticketed.close_code() == 4201
    await fleet.record(stays)
    assert await staying.seqs(1) == [1]
    assert (await fleet.refused(hub.url, goes, bearer=signed(ring, goes))).status == 401
    await (await fleet.connect(hub.url, goes, bearer=signed(both, goes))).welcome()


async def test_a_renewal_by_a_key_that_is_retired_while_it_is_checked_does_not_count(
    fleet: Fleet, start_hub: StartHub, tmp_path: Path
) -> None:
    old, new = key("old"), key("new")
    file = tmp_path / "keys.json"
    file.write_text(json.dumps({"keys": [new, old]}))
    ring = KeyRing.from_jwks(file.read_text())
    # Renewals wait long for others, so that the key is retired meanwhile.
    hub = await start_hub(
        FLEETWIRE_TOKEN_KEYS="",
        FLEETWIRE_TOKEN_KEYS_FILE=str(file),
        FLEETWIRE_KEYS_RELOAD_S="0.05",
        FLEETWIRE_HUB_GATHER_S="1.0",
    )
    truck = await fleet.new_device()
    device = await fleet.connect(hub.url, truck, bearer=ticket(truck))
    await device.welcome()
    connection = hub.running.hub.registry.get(truck)
    assert connection is not None
    renewed = ring.mint(subject=truck, scopes=frozenset({"device"}), now=time.time(), lifetime_s=600)
    await device.socket.send(json.dumps({"type": "token", "token": renewed}))
    await until(lambda: connection._validity._is_checking)
    beside = tmp_path / "keys.new"
    beside.write_text(json.dumps({"keys": [new]}))
    beside.rename(file)
    answer = await device.frame()
    assert (answer["type"], answer["code"]) == ("error", "token_refused")


@pytest.mark.parametrize("is_true", [True, False])
async def test_a_revocation_during_the_handshake_is_not_overlooked(
    fleet: Fleet, start_hub: StartHub, is_true: bool
) -> None:
    # The greeting waits long for others, so that the revocation comes while it is under way.
    hub = await start_hub(FLEETWIRE_HUB_GATHER_S="1.0", **NO_SWEEP)
    truck = await fleet.new_device()
    bearer = token(truck)
    # Once before, so that the bus brings what is said of the device.
    before = await fleet.connect(hub.url, truck, bearer=bearer)
    await before.welcome()
    connecting = asyncio.create_task(fleet.connect(hub.url, truck, bearer=bearer))
    await until(lambda: list(hub.running.hub.registry.waiting(truck)))
    if is_true:
        await revoke_device(fleet.pool, truck)
    fleet.publisher.offer(revocation_message(truck))
    with pytest.raises(InvalidStatus) as refused:
        await connecting
    # The statement may have been asked before: then all that is known is that it must be asked again.
    assert refused.value.response.status_code in ((401, 503) if is_true else (503,))
    if is_true:
        assert (await fleet.refused(hub.url, truck, bearer=bearer)).status == 401
    else:
        await (await fleet.connect(hub.url, truck, bearer=bearer)).welcome()
