"""Key sets that follow their files: taken when good, left as they were when not."""

import base64
import json
import random
from pathlib import Path

import pytest

from shared.key_watch import KeyWatch, WatchedKeys
from shared.keys import read_hmac_keys, read_key_ring
from shared.telemetry.metrics import KEYS_UNREADABLE

SECRET = base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode().rstrip("=")


def key_set(*kids: str) -> str:
    return json.dumps({"keys": [{"kty": "oct", "kid": kid, "alg": "HS256", "k": SECRET} for kid in kids]})


class Watched:
    def __init__(self, file: Path, *, signs: bool = False) -> None:
        self.file = file
        file.write_text(key_set("a"))
        self.ring = read_key_ring(file, None)
        self.changes = 0
        watched = [WatchedKeys("TEST_KEYS", file, self.ring, signs), WatchedKeys("INLINE", None, self.ring)]
        self.watch = KeyWatch(watched, period_s=1.0, rand=random.Random(1), on_change=self.on_change)

    @property
    def seen(self) -> tuple[set[str], int]:
        """The keys that are accepted, and how often a change was told."""
        return set(self.ring.key_ids), self.changes

    def on_change(self) -> None:
        self.changes += 1


@pytest.fixture
async def watched(tmp_path: Path) -> Watched:
    made = Watched(tmp_path / "keys.json")
    await made.watch.look()
    made.changes = 0
    return made


async def test_a_key_added_and_one_retired_are_known_to_the_ring_that_is_in_use(watched: Watched) -> None:
    watched.file.write_text(key_set("a", "b"))
    await watched.watch.look()
    assert watched.ring.signing_key_id == "b"
    assert watched.seen == ({"a", "b"}, 1)
    watched.file.write_text(key_set("b"))
    await watched.watch.look()
    assert watched.seen == ({"b"}, 2)
    await watched.watch.look()
    assert watched.changes == 2


@pytest.mark.parametrize("content", ["", "{", "[]", '{"keys":[]}', "x" * 70_000])
async def test_a_set_that_is_broken_changes_nothing_until_it_is_mended(watched: Watched, content: str) -> None:
    watched.file.write_text(content)
    await watched.watch.look()
    await watched.watch.look()
    assert watched.seen == ({"a"}, 0)
    assert KEYS_UNREADABLE.labels("TEST_KEYS")._value.get() == 1
    watched.file.write_text(key_set("c"))
    await watched.watch.look()
    assert watched.seen == ({"c"}, 1)
    assert KEYS_UNREADABLE.labels("TEST_KEYS")._value.get() == 0


async def test_a_file_that_is_gone_changes_nothing(watched: Watched) -> None:
    watched.file.unlink()
    await watched.watch.look()
    assert watched.ring.key_ids == {"a"}


async def test_who_signs_keeps_the_set_it_can_sign_with(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from jwt.algorithms import OKPAlgorithm

    made = Watched(tmp_path / "keys.json", signs=True)
    public = json.loads(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate().public_key()))
    made.file.write_text(json.dumps({"keys": [public | {"kid": "p", "alg": "EdDSA"}]}))
    await made.watch.look()
    assert made.ring.key_ids == {"a"}


async def test_secrets_of_file_addresses_follow_their_file_too(tmp_path: Path) -> None:
    file = tmp_path / "files.json"
    file.write_text(key_set("a"))
    keys = read_hmac_keys(file, None)
    watch = KeyWatch([WatchedKeys("FILES", file, keys)], period_s=1.0, rand=random.Random(1))
    file.write_text(key_set("a", "b"))
    await watch.look()
    assert (list(keys), keys.signing_key_id) == (["a", "b"], "b")
    file.write_text(json.dumps({"keys": [{"kty": "oct", "kid": "short", "k": "AAAA"}]}))
    await watch.look()
    assert list(keys) == ["a", "b"]
    assert SECRET not in repr(keys)
