"""`python -m infra.redis_keeper`: keep the Redis Cluster of a set of pods whole (infra/k8s/redis)."""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass

from infra.redis_keeper.keeper import Keeper
from infra.redis_keeper.servers import Servers
from shared.settings import SettingsError, bounded_float, bounded_int, load, setting
from shared.telemetry.health import OpsServer, OpsSettings, Readiness
from shared.telemetry.logs import LogSettings, configure


def _names(raw: str) -> tuple[str, ...]:
    names = tuple(part.strip() for part in raw.split(",") if part.strip())
    if not names or any(not name.rpartition(":")[0] or not name.rpartition(":")[2].isdigit() for name in names):
        raise ValueError("must be host:port, several with commas between them")
    return names


@dataclass(frozen=True, kw_only=True)
class Settings(OpsSettings, LogSettings):
    """Seconds end in `_s`."""

    names: tuple[str, ...] = setting(
        "FLEETWIRE_REDIS_KEEPER_NAMES", help="Names whose addresses are the servers: host:port,host:port.", parse=_names
    )
    password: str | None = setting("FLEETWIRE_REDIS_KEEPER_PASSWORD", None, help="Of the servers.", secret=True)
    least: int = setting(
        "FLEETWIRE_REDIS_KEEPER_LEAST",
        9,
        help="Servers that must be there before a cluster is made of them.",
        parse=bounded_int(3, 300),
    )
    period_s: float = setting(
        "FLEETWIRE_REDIS_KEEPER_PERIOD_S", 5.0, help="How often it looks.", parse=bounded_float(0.05, 300)
    )
    stuck_s: float = setting(
        "FLEETWIRE_REDIS_KEEPER_STUCK_S",
        20.0,
        help="A master failed for so long is replaced though no majority elects another.",
        parse=bounded_float(0.1, 3600),
    )
    deadline_s: float = setting(
        "FLEETWIRE_REDIS_KEEPER_DEADLINE_S", 3.0, help="How long a server may take.", parse=bounded_float(0.05, 60)
    )
    ops_port: int = setting(
        "FLEETWIRE_OPS_PORT", 9500, help="Operations port; 0 takes any free one.", parse=bounded_int(0, 65535)
    )


async def _run(settings: Settings) -> None:
    servers = Servers(settings.password, settings.deadline_s)
    keeper = Keeper(settings.names, servers, least=settings.least, period_s=settings.period_s, stuck_s=settings.stuck_s)
    ops = OpsServer(
        settings.ops_host,
        settings.ops_port,
        process="redis-keeper",
        readiness=lambda: Readiness(ready=True, detail={"settled": keeper.settled}),
        token=settings.ops_token,
    )
    await ops.start()
    task = asyncio.create_task(keeper.run(), name="keeper")
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        await servers.close()
        await ops.close()


def main() -> int:
    """Run until told to end."""
    try:
        settings = load(Settings, os.environ)
        configure("redis-keeper", settings.log_level, json=settings.log_format == "json")
        asyncio.run(_run(settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
