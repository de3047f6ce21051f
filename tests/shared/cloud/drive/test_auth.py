import asyncio
import json
from pathlib import Path

import pytest

from loadtests.emulators.drive import DriveEmulator
from loadtests.emulators.faults import Fault
from shared.cloud.drive.auth import Tokens, read_key
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.errors import Misconfigured, StoreUnavailable
from tests.shared.cloud.drive.account import Account


async def test_one_token_serves_all_who_wait_for_one(provider: DriveProvider, drive: DriveEmulator) -> None:
    await asyncio.gather(*(provider.look(f"{n}.txt") for n in range(10)))
    assert drive.calls["token"] == 1


async def test_a_token_that_was_revoked_is_asked_for_anew(provider: DriveProvider, drive: DriveEmulator) -> None:
    await provider.look("a.txt")
    drive.account.revoke_tokens()
    await provider.put_new("a.txt", b"x")
    drive.account.revoke_tokens()
    async with provider.open("a.txt") as reader:
        drive.account.revoke_tokens()
        assert b"".join([piece async for piece in reader.chunks()]) == b"x"
    assert drive.calls["token"] == 4


async def test_a_token_is_renewed_before_it_ends(account: Account, drive: DriveEmulator, tmp_path: Path) -> None:
    now = 0.0
    key = read_key(drive.account.write_key_file(tmp_path / "again.json", f"{drive.url}/token"))
    tokens = Tokens(account.http, key, store="drive", monotonic=lambda: now)
    first = await tokens.headers()
    now = 3400.0
    assert await tokens.headers() == first
    now = 3500.0
    assert await tokens.headers() != first
    assert first["Authorization"].split()[1] not in repr(tokens)


@pytest.mark.parametrize("fault", [Fault("token", status=500, times=9), Fault("token", "lose_answer", times=9)])
async def test_a_token_endpoint_in_trouble_is_trouble(
    provider: DriveProvider, drive: DriveEmulator, fault: Fault
) -> None:
    drive.script.add(fault)
    with pytest.raises(StoreUnavailable):
        await provider.look("a.txt")


async def test_a_machine_with_the_wrong_time_is_told_so(account: Account, drive: DriveEmulator, tmp_path: Path) -> None:
    key = read_key(drive.account.write_key_file(tmp_path / "again.json", f"{drive.url}/token"))
    with pytest.raises(Misconfigured, match="clock right"):
        await Tokens(account.http, key, store="drive", wall=lambda: 1.0e9).headers()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"type": "authorized_user"}, "not the JSON key"),
        ({"private_key": "nonsense"}, "cannot be read"),
        ({"private_key": None}, "missing"),
        ({"client_email": "nobody"}, "no address"),
        ({"token_uri": "http://elsewhere.example/token"}, "no https address"),
    ],
)
def test_a_key_file_that_is_none_is_named(
    drive: DriveEmulator, tmp_path: Path, change: dict[str, object], problem: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(drive.account.key_file(f"{drive.url}/token") | change))
    with pytest.raises(Misconfigured, match=problem) as caught:
        read_key(path)
    assert str(path) in str(caught.value)
    assert "PRIVATE" not in str(caught.value)


def test_a_key_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="FLEETWIRE_DRIVE_KEY_FILE"):
        read_key(tmp_path / "nothing.json")
    (tmp_path / "long.json").write_text(" " * 100_000)
    with pytest.raises(Misconfigured):
        read_key(tmp_path / "long.json")


def test_the_key_is_in_no_repr(drive: DriveEmulator, tmp_path: Path) -> None:
    key = read_key(drive.account.write_key_file(tmp_path / "key.json", f"{drive.url}/token"))
    assert "RSA" not in repr(key)
