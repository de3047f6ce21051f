"""Make the secrets of a set-up with containers: `python -m infra.docker.prepare`, once, before `docker compose up`.

`--production` makes those of docker-compose.production.yml as well. Nothing has a password that is known beforehand, so
nothing starts without this. What is there is kept: a second run changes nothing, and a key set that was rotated by hand
stays. The folder is for its owner only; the key sets in it may be read by anyone who gets there, since containers read
them as their own users through the mount.
"""

import base64
import json
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

FOLDER: Final = Path("infra/docker/private")
_MOUNTED: Final = 0o444
_CLOUD_ENVIRONMENT: Final = """\
# Stores beside the local folder, for api, watcher, worker, files and cli: see docs/cloud-stores.md. Take the # away.

# S3
# FLEETWIRE_S3_BUCKET=fleet
# FLEETWIRE_S3_REGION=eu-central-1
# FLEETWIRE_S3_KEY_ID=AKIA
# FLEETWIRE_S3_SECRET=secret

# Google Drive; the account's key goes into cloud-drive-key.json, beside this file
# FLEETWIRE_DRIVE_KEY_FILE=/run/secrets/cloud-drive-key.json
# FLEETWIRE_DRIVE_ROOTS=fleet=folderId@driveId

# SharePoint; the certificate with its key goes into cloud-graph-certificate.pem, beside this file
# FLEETWIRE_GRAPH_TENANT=00000000-0000-0000-0000-000000000000
# FLEETWIRE_GRAPH_CLIENT_ID=00000000-0000-0000-0000-000000000000
# FLEETWIRE_GRAPH_CERTIFICATE_FILE=/run/secrets/cloud-graph-certificate.pem
# FLEETWIRE_GRAPH_DRIVES=fleet=b!driveId

# Where responses go, and where providers call when something changed
# FLEETWIRE_CLOUD_PLACEMENT=sharepoint:fleet=70,drive:fleet=20,local=10
# FLEETWIRE_HOOKS_URL=https://fleet.example.com
"""
_OWN: Final = 0o600


def prepare(folder: Path, *, production: bool = False) -> list[str]:
    """Make what is missing; the names of what was made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    made: list[str] = []

    def keep(name: str, make: Callable[[], str], mode: int = _MOUNTED) -> str:
        file = folder / name
        if not file.exists():
            draft = folder / f"{name}.tmp"
            draft.unlink(missing_ok=True)
            draft.touch(mode=0o600)
            draft.write_text(make(), encoding="utf-8")
            draft.chmod(mode)
            draft.rename(file)
            made.append(name)
        return file.read_text(encoding="utf-8").strip()

    for name in ("token-keys", "ticket-keys"):
        private = keep(f"{name}.json", _signing_set)
        keep(f"{name}.public.json", lambda private=private: _public(private))  # type: ignore[misc]
    keep("files-keys.json", _hmac_set)
    postgres = keep("postgres-password", _password)
    valkey = keep("valkey.conf", _valkey_configuration).rpartition("requirepass ")[2].split()[0]
    keep("rabbitmq.conf", _rabbit_configuration)
    keep("database.env", lambda: _database_environment(postgres, valkey), _OWN)
    operations = keep("operations.env", lambda: f"FLEETWIRE_OPS_TOKEN={_password()}\n", _OWN)
    keep("cloud.env", lambda: _CLOUD_ENVIRONMENT, _OWN)
    # Mounted from the first start on, so that setting up a store later takes no more than filling them.
    for name in ("cloud-drive-key.json", "cloud-graph-certificate.pem"):
        keep(name, lambda: "put the key here\n")
    if production:
        keep("replication-password", _password)
        keep("grafana-password", _password)
        keep("operations-token", lambda: operations.partition("=")[2])
        keep("pgbouncer-users.txt", lambda: f'"fleetwire" "{postgres}"\n')
        keep("pooled.env", lambda: _database_environment(postgres, valkey, "pgbouncer:6432"), _OWN)
        keep("copies.env", lambda: _copies_environment(postgres), _OWN)
    return made


def _database_environment(postgres: str, valkey: str, where: str = "postgres:5432") -> str:
    database_url = f"postgresql://fleetwire:{postgres}@{where}/fleetwire"
    return f"FLEETWIRE_DATABASE_URL={database_url}\nFLEETWIRE_REDIS_URL=redis://:{valkey}@valkey:6379/0\n"


def _copies_environment(postgres: str) -> str:
    copies = (f"postgresql://fleetwire:{postgres}@postgres-copy-{n}:5432/fleetwire" for n in (1, 2))
    return f"FLEETWIRE_DATABASE_REPLICA_URL={' '.join(copies)}\n"


def _valkey_configuration() -> str:
    """Nothing is kept on disk: the log in Postgres is the truth."""
    lines = (
        "bind * -::*",
        "port 6379",
        'save ""',
        "appendonly no",
        "maxmemory 256mb",
        "maxmemory-policy noeviction",
        f"requirepass {_password()}",
    )
    return "\n".join(lines) + "\n"


def _rabbit_configuration() -> str:
    """Its first line is what `FLEETWIRE_QUEUE_URL` is for those who use it."""
    password = _password()
    lines = (
        f"# amqp://fleetwire:{password}@rabbit:5672/%2F",
        "listeners.tcp.default = 5672",
        "default_user = fleetwire",
        f"default_pass = {password}",
        "vm_memory_high_watermark.absolute = 256MB",
    )
    return "\n".join(lines) + "\n"


def _password() -> str:
    # Hexadecimal, so that it needs no quoting in a URL, a configuration or a shell.
    return secrets.token_hex(24)


def _signing_set() -> str:
    key: dict[str, Any] = OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)
    return _key_set(key | {"alg": "EdDSA", "use": "sig"})


def _hmac_set() -> str:
    secret = base64.urlsafe_b64encode(secrets.token_bytes(48)).rstrip(b"=").decode()
    return _key_set({"kty": "oct", "alg": "HS256", "k": secret})


def _key_set(key: dict[str, Any]) -> str:
    return json.dumps({"keys": [{"kid": secrets.token_hex(4), **key}]}, indent=1) + "\n"


def _public(private: str) -> str:
    keys = [{name: value for name, value in key.items() if name != "d"} for key in json.loads(private)["keys"]]
    return json.dumps({"keys": keys}, indent=1) + "\n"


def main(arguments: list[str]) -> int:
    """Say what was made and what comes next."""
    production = "--production" in arguments
    folders = [argument for argument in arguments if argument != "--production"]
    folder = Path(folders[0]) if folders else FOLDER
    for name in prepare(folder, production=production):
        print(f"made {folder / name}")
    print(
        "ready: " + ("docker compose -f docker-compose.production.yml …" if production else "docker compose up --build")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
