"""Settings of `fleetwire up`: where its home is, which servers it uses, which ports it takes.

A port of 0 means any free one. With FLEETWIRE_DATABASE_URL or FLEETWIRE_REDIS_URL set, that server is not embedded.
"""

from dataclasses import dataclass
from pathlib import Path

from infra.onebox import postgres, valkey
from shared.settings import bounded_int, path, setting

__all__ = ["UpSettings"]

_PORT = bounded_int(0, 65535)


@dataclass(frozen=True)
class UpSettings:
    """What `fleetwire up` reads from the environment."""

    home: Path = setting("FLEETWIRE_HOME", Path(".fleetwire"), help="Folder of embedded data and secrets.", parse=path)
    cloud_root: Path | None = setting(
        "FLEETWIRE_CLOUD_ROOT", None, help="The local cloud folder; by default `cloud` in the home.", parse=path
    )
    database_url: str | None = setting(
        "FLEETWIRE_DATABASE_URL", None, help="A Postgres that runs already.", secret=True
    )
    redis_url: str | None = setting("FLEETWIRE_REDIS_URL", None, help="A Redis that runs already.", secret=True)
    postgres_port: int = setting(
        "FLEETWIRE_POSTGRES_PORT", postgres.DEFAULT_PORT, help="Port of the embedded Postgres.", parse=_PORT
    )
    valkey_port: int = setting(
        "FLEETWIRE_VALKEY_PORT", valkey.DEFAULT_PORT, help="Port of the embedded Valkey.", parse=_PORT
    )
    api_port: int = setting("FLEETWIRE_API_PORT", 8080, help="Port of the API.", parse=_PORT)
    hub_port: int = setting(
        "FLEETWIRE_HUB_PORT", 8101, help="Port of the first hub; the next take the next.", parse=_PORT
    )
    files_port: int = setting("FLEETWIRE_FILES_PORT", 8090, help="Port of the files gateway.", parse=_PORT)
    api_ops_port: int = setting("FLEETWIRE_API_OPS_PORT", 9000, help="Operations port of the API.", parse=_PORT)
    hub_ops_port: int = setting(
        "FLEETWIRE_HUB_OPS_PORT", 9101, help="Operations port of the first hub; the next take the next.", parse=_PORT
    )
    watcher_ops_port: int = setting(
        "FLEETWIRE_WATCHER_OPS_PORT", 9201, help="Operations port of the watcher.", parse=_PORT
    )
    worker_ops_port: int = setting(
        "FLEETWIRE_WORKER_OPS_PORT", 9301, help="Operations port of the worker.", parse=_PORT
    )
    files_ops_port: int = setting(
        "FLEETWIRE_FILES_OPS_PORT", 9400, help="Operations port of the files gateway.", parse=_PORT
    )
    stop_deadline_s: int = setting(
        "FLEETWIRE_UP_STOP_DEADLINE_S",
        6,
        help="Seconds that the processes get to end; what is left then is killed, and the servers get 3 more.",
        parse=bounded_int(1, 60),
    )
