import json
import stat
import subprocess
import sys
from pathlib import Path

from infra.docker.prepare import prepare
from shared.keys import read_hmac_keys, read_key_ring
from shared.settings import load
from shared.store.settings import DatabaseSettings

NOW = 1_795_334_400.0


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_what_was_signed_with_a_private_set_is_verified_with_the_public_one_beside_it(tmp_path: Path) -> None:
    prepare(tmp_path)
    for name in ("token-keys", "ticket-keys"):
        signing = read_key_ring(tmp_path / f"{name}.json", None)
        verifying = read_key_ring(tmp_path / f"{name}.public.json", None)
        token = signing.mint(subject="truck-7", scopes=frozenset({"device"}), now=NOW, lifetime_s=60)
        assert verifying.verify(token, now=NOW).subject == "truck-7"
        assert verifying.signing_key_id is None
    assert len(next(iter(read_hmac_keys(tmp_path / "files-keys.json", None).values()))) == 48


def test_tokens_and_tickets_are_signed_with_different_keys(tmp_path: Path) -> None:
    prepare(tmp_path)
    tokens = json.loads((tmp_path / "token-keys.json").read_text())["keys"][0]
    tickets = json.loads((tmp_path / "ticket-keys.json").read_text())["keys"][0]
    assert tokens["x"] != tickets["x"]


def test_a_second_run_changes_nothing_and_a_missing_piece_is_made_to_fit(tmp_path: Path) -> None:
    assert prepare(tmp_path)
    before = contents(tmp_path)
    assert prepare(tmp_path) == []
    assert contents(tmp_path) == before
    for name in ("token-keys.public.json", "database.env"):
        (tmp_path / name).unlink()
    assert prepare(tmp_path) == ["token-keys.public.json", "database.env"]
    assert contents(tmp_path) == before


def test_two_set_ups_share_no_secret(tmp_path: Path) -> None:
    prepare(tmp_path / "one")
    prepare(tmp_path / "two")
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one.keys() == two.keys()
    same = {name for name in one if one[name] == two[name]}
    assert same == {"cloud.env", "cloud-drive-key.json", "cloud-graph-certificate.pem"}, "to be filled by people"


def test_only_the_owner_gets_to_the_secrets(tmp_path: Path) -> None:
    folder = tmp_path / "private"
    folder.mkdir(mode=0o755)
    prepare(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()}
    assert {mode for name, mode in modes.items() if name.endswith(".env")} == {0o600}
    # Mounted one by one into containers, whose users are others than ours.
    assert {mode for name, mode in modes.items() if not name.endswith(".env")} == {0o444}


def test_postgres_and_valkey_are_given_the_passwords_that_the_processes_use(tmp_path: Path) -> None:
    prepare(tmp_path)
    environ = dict(line.split("=", 1) for line in (tmp_path / "database.env").read_text().splitlines())
    password = (tmp_path / "postgres-password").read_text()
    assert load(DatabaseSettings, environ).database_url == f"postgresql://fleetwire:{password}@postgres:5432/fleetwire"
    required = (tmp_path / "valkey.conf").read_text().split("requirepass ")[1].strip()
    assert environ["FLEETWIRE_REDIS_URL"] == f"redis://:{required}@valkey:6379/0"


def test_it_is_run_by_one_command_that_shows_no_secret(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "infra.docker.prepare", str(tmp_path / "private")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for secret in contents(tmp_path / "private").values():
        assert secret.decode().strip() not in done.stdout
    assert "docker compose up" in done.stdout


def test_the_secrets_of_production_fit_together(tmp_path: Path) -> None:
    prepare(tmp_path)
    before = contents(tmp_path)
    made = prepare(tmp_path, production=True)
    assert {"replication-password", "pgbouncer-users.txt", "pooled.env", "copies.env", "operations-token"} <= set(made)
    assert before.items() <= contents(tmp_path).items(), "what was there is kept"
    password = (tmp_path / "postgres-password").read_text()
    assert (tmp_path / "pgbouncer-users.txt").read_text() == f'"fleetwire" "{password}"\n'
    assert f"fleetwire:{password}@pgbouncer:6432/fleetwire" in (tmp_path / "pooled.env").read_text()
    assert (tmp_path / "copies.env").read_text().count(password) == 2
    token = (tmp_path / "operations-token").read_text()
    assert (tmp_path / "operations.env").read_text() == f"FLEETWIRE_OPS_TOKEN={token}\n"
