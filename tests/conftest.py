"""What tests share: a Postgres and a Valkey for the whole run, a migrated database per test, private servers to break.

`FLEETWIRE_TEST_DATABASE_URL` (a role that may create databases) and `FLEETWIRE_TEST_REDIS_URL` name servers that run
already. Everything else listens on free ports in a temporary folder, so that the suite runs beside `make up`.
"""

import asyncio
import itertools
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
import redis

from infra.migrations import runner
from infra.onebox.home import Home
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.valkey import EmbeddedValkey
from loadtests.ports import free_port
from loadtests.rabbit_server import RABBIT_MISSING, RabbitServer, server_script
from loadtests.standby import StandbyPostgres
from loadtests.valkey_cluster import ValkeyCluster, running_cluster
from tests.certificates import self_signed
from tests.servers import ServerProcess, run_apart


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="a skipped test fails the run")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.getoption("--fail-on-skip") and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("skipped tests are failures here (--fail-on-skip)", red=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs RabbitMQ comes first, so that one process of the run has all of it and starts the one server: the
    beginning of what a process was given is what nobody takes over from it."""
    items.sort(key=lambda item: not _needs_rabbit(item))


def _needs_rabbit(item: pytest.Item) -> bool:
    names = getattr(item, "fixturenames", ())
    given = getattr(item, "callspec", None)
    return "rabbit" in names or (given is not None and "rabbit" in given.params.values())


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not session.config.getoption("--fail-on-skip"):
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and reporter.stats.get("skipped") and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_xdist_auto_num_workers() -> int:
    """How many processes `make test` shares the tests out among, each with servers of its own.

    One more than there are cores, since most tests wait; one alone where the servers are given, since they are emptied
    for each test.
    """
    if {"FLEETWIRE_TEST_DATABASE_URL", "FLEETWIRE_TEST_REDIS_URL"} & os.environ.keys():
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(8, 1 + cores)


ServerFactory = Callable[..., ServerProcess]


def _home(path: Path) -> Home:
    home = Home(path)
    home.prepare()
    return home


@pytest.fixture(scope="session")
def homes() -> Iterator[Path]:
    """A folder for homes that a Postgres running as `nobody` can reach, which pytest's own private folders are not."""
    folder = Path(tempfile.mkdtemp(prefix="fleetwire-tests-", dir="/var/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def session_home(homes: Path) -> Iterator[Home]:
    """The home of the servers that the whole run shares."""
    home = _home(homes / "shared")
    yield home
    shutil.rmtree(f"/var/tmp/fleetwire-{home.fingerprint}", ignore_errors=True)


@pytest.fixture
def home(homes: Path) -> Iterator[Home]:
    """A home of this test's own, with nothing in it yet."""
    made = _home(homes / secrets.token_hex(4))
    yield made
    for left in (made.path, Path(f"/var/tmp/fleetwire-{made.fingerprint}")):
        shutil.rmtree(left, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_install(session_home: Home) -> Path:
    """Postgres' binaries where its user can reach them: copied once for the whole run, if at all."""
    server = EmbeddedPostgres(session_home, durable=False)
    server.prepare()
    assert server.install is not None
    return server.install


@pytest.fixture(scope="session")
def postgres_admin_url(session_home: Home, postgres_install: Path) -> Iterator[str]:
    """A Postgres that forgets on power loss and is quick: for everything but tests of Postgres failing."""
    given = os.environ.get("FLEETWIRE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    process = ServerProcess(EmbeddedPostgres(session_home, port=free_port(), durable=False, install=postgres_install))
    process.start()
    yield process.url
    process.stop()


class _Databases:
    """Makes and drops databases over one connection that stays open, on a loop of its own."""

    def __init__(self, admin_url: str) -> None:
        self._url = admin_url
        self._loop = asyncio.new_event_loop()
        self._admin: asyncpg.Connection = self._run(asyncpg.connect(admin_url))
        self._template = f"fleetwire_template_{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self.execute(f"CREATE DATABASE {self._template}")
        self._run(runner.migrate(self._named(self._template)))
        self.execute(f"ALTER DATABASE {self._template} WITH ALLOW_CONNECTIONS false")

    def _run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    def _named(self, name: str) -> str:
        return urlunsplit(urlsplit(self._url)._replace(path=f"/{name}"))

    def execute(self, statement: str) -> None:
        self._run(self._admin.execute(statement))

    def make(self) -> tuple[str, str]:
        """A migrated copy: its name and its address."""
        name = f"{self._template}_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {self._template} STRATEGY FILE_COPY")
        # A copy has the tables of its template and not the settings laid on that database.
        for key, value in runner.SERVER_SETTINGS.items():
            self.execute(f"ALTER DATABASE {name} SET {key} = '{value}'")
        return name, self._named(name)

    def drop(self, name: str) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def close(self) -> None:
        self.execute(f"DROP DATABASE IF EXISTS {self._template} WITH (FORCE)")
        self._run(self._admin.close())
        self._loop.close()


@pytest.fixture(scope="session")
def _databases(postgres_admin_url: str) -> Iterator[_Databases]:
    databases = _Databases(postgres_admin_url)
    yield databases
    databases.close()


@pytest.fixture
def database_url(_databases: _Databases) -> Iterator[str]:
    """The address of a migrated, empty database that is this test's own."""
    name, url = _databases.make()
    yield url
    _databases.drop(name)


@pytest.fixture(scope="session")
def _shared_redis_url(session_home: Home) -> Iterator[str]:
    given = os.environ.get("FLEETWIRE_TEST_REDIS_URL")
    if given:
        yield given
        return
    process = ServerProcess(EmbeddedValkey(session_home, port=free_port()))
    process.start()
    yield process.url
    process.stop()


@pytest.fixture
def redis_url(_shared_redis_url: str) -> str:
    """The address of a Valkey that was emptied for this test. Its channels are shared: use device ids of your own."""
    with redis.Redis.from_url(_shared_redis_url) as client:
        client.flushall()
    return _shared_redis_url


@pytest.fixture
def valkey_server(home: Home) -> Iterator[ServerFactory]:
    """Makes private, running Valkeys that the test may kill, pause and restart."""
    started: list[ServerProcess] = []

    def make(**settings: str) -> ServerProcess:
        home_of_it = _home(home.path / f"valkey-{len(started)}")
        process = ServerProcess(EmbeddedValkey(home_of_it, port=free_port(), settings=settings))
        started.append(process)
        process.start()
        return process

    yield make
    for process in started:
        process.stop()


@pytest.fixture(scope="session")
def _shared_rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    if server_script() is None:
        pytest.skip(RABBIT_MISSING)
    folder = tmp_path_factory.mktemp("rabbit")
    certificate, key = self_signed(folder)
    server = RabbitServer(folder / "server", certificate=certificate, key=key)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def rabbit(_shared_rabbit: RabbitServer) -> RabbitServer:
    """A RabbitMQ that the whole run shares, since it takes seconds to start. It runs, is not paused, and holds what
    other tests left: use queues of your own.
    """
    _shared_rabbit.revive()
    return _shared_rabbit


@pytest.fixture(scope="session")
def _shared_cluster() -> Iterator[ValkeyCluster]:
    with running_cluster(node_timeout_ms=600) as cluster:
        yield cluster


@pytest.fixture
def valkey_cluster(_shared_cluster: ValkeyCluster) -> ValkeyCluster:
    """Three primaries with a replica each, whole when the test begins and free to be broken by it."""
    _shared_cluster.heal()
    return _shared_cluster


@pytest.fixture
def postgres_server(home: Home, postgres_install: Path) -> Iterator[ServerFactory]:
    """Makes private, running, migrated Postgres servers that the test may kill, pause and restart."""
    started: list[ServerProcess] = []

    def make(**settings: str) -> ServerProcess:
        home_of_it = _home(home.path / f"postgres-{len(started)}")
        server = EmbeddedPostgres(
            home_of_it, port=free_port(), durable=False, settings=settings, install=postgres_install
        )
        process = ServerProcess(server)
        started.append(process)
        process.start()
        run_apart(runner.migrate(process.url))
        return process

    yield make
    for process in started:
        process.stop()


Pair = tuple[ServerProcess, ServerProcess]


@contextmanager
def _running_pair(folder: Path, install: Path) -> Iterator[Pair]:
    primary = EmbeddedPostgres(_home(folder / "primary"), port=free_port(), durable=False, install=install)
    copy = StandbyPostgres(_home(folder / "copy"), port=free_port(), durable=False, install=install, primary=primary)
    pair = ServerProcess(primary), ServerProcess(copy)
    try:
        pair[0].start()
        run_apart(runner.migrate(primary.url))
        pair[1].start()
        yield pair
    finally:
        for process in reversed(pair):
            process.stop()


@pytest.fixture
def postgres_pair(home: Home, postgres_install: Path) -> Iterator[Pair]:
    """A migrated primary and a streaming copy of it, both free to be broken."""
    with _running_pair(home.path, postgres_install) as pair:
        yield pair


@pytest.fixture(scope="session")
def shared_postgres_pair(homes: Path, postgres_install: Path) -> Iterator[Pair]:
    """One for the whole run: tests leave both servers as they found them, and find in the tables what others left."""
    folder = homes / secrets.token_hex(4)
    _home(folder)
    with _running_pair(folder, postgres_install) as pair:
        yield pair
    for name in ("primary", "copy"):
        shutil.rmtree(f"/var/tmp/fleetwire-{Home(folder / name).fingerprint}", ignore_errors=True)
