"""What would run: ports, keys and settings, before anything does."""

from pathlib import Path

import pytest

from infra.onebox.home import Home
from infra.onebox.keys import KeyFiles, development_keys
from infra.onebox.plan import Ports, check_settings, port_wishes, process_environment, processes
from infra.onebox.settings import UpSettings
from shared.keys import read_hmac_keys, read_key_ring
from shared.settings import SettingsError, load


def planned_ports(hubs: int = 2) -> Ports:
    wishes = port_wishes(load(UpSettings, {}), hubs)
    return Ports.from_settled(wishes, [wish.port for wish in wishes])


@pytest.fixture
def keys(home: Home) -> KeyFiles:
    return development_keys(home)


def test_the_documented_ports_are_the_defaults() -> None:
    ports = planned_ports(hubs=3)
    assert (ports.api, ports.files, ports.hubs) == (8080, 8090, (8101, 8102, 8103))
    assert (ports.api_ops, ports.hub_ops, ports.watcher_ops, ports.worker_ops, ports.files_ops) == (
        9000,
        (9101, 9102, 9103),
        9201,
        9301,
        9400,
    )


def test_a_server_that_is_given_needs_no_port() -> None:
    settings = load(UpSettings, {"FLEETWIRE_DATABASE_URL": "postgresql://h/d", "FLEETWIRE_REDIS_URL": "redis://h"})
    assert {"Postgres", "Valkey"}.isdisjoint(wish.what for wish in port_wishes(settings, 1))


def test_processes_start_in_the_order_of_the_path(keys: KeyFiles) -> None:
    groups = [[process.name for process in group] for group in processes(planned_ports(), keys, {})]
    assert groups == [["api"], ["hub-1", "hub-2"], ["watcher"], ["worker"], ["files"]]


def test_hubs_get_keys_that_only_verify(home: Home, keys: KeyFiles) -> None:
    environment = process_environment({}, home, keys, cloud=home.cloud, database_url="d", redis_url="r")
    hub = processes(planned_ports(), keys, {})[1][0]
    given = {**environment, **hub.settings}
    assert read_key_ring(Path(given["FLEETWIRE_TICKET_KEYS_FILE"]), None).signing_key_id is None
    assert read_key_ring(Path(given["FLEETWIRE_TOKEN_KEYS_FILE"]), None).signing_key_id is None
    assert read_key_ring(Path(environment["FLEETWIRE_TICKET_KEYS_FILE"]), None).signing_key_id is not None


def test_keys_of_the_environment_are_kept(home: Home, keys: KeyFiles) -> None:
    given = {"FLEETWIRE_TOKEN_KEYS": "{}"}
    environment = process_environment(given, home, keys, cloud=home.cloud, database_url="d", redis_url="r")
    assert "FLEETWIRE_TOKEN_KEYS_FILE" not in environment
    assert "FLEETWIRE_TOKEN_KEYS_FILE" not in processes(planned_ports(), keys, given)[1][0].settings
    assert "FLEETWIRE_TICKET_KEYS_FILE" in environment


def test_keys_are_made_once_and_are_private(home: Home) -> None:
    first = development_keys(home)
    before = first.tokens.read_bytes()
    assert development_keys(home) == first
    assert first.tokens.read_bytes() == before
    assert first.tokens.stat().st_mode & 0o077 == 0
    assert len(read_hmac_keys(first.files, None)["development-files"]) >= 32
    assert b'"d"' not in first.tokens_public.read_bytes()


def checked(home: Home, keys: KeyFiles, connections: int | None, **given: str) -> None:
    environment = process_environment(
        given, home, keys, cloud=home.cloud, database_url="postgresql://h/d", redis_url="redis://h:1/0"
    )
    planned = [process for group in processes(planned_ports(), keys, given) for process in group]
    check_settings(planned, environment, connections=connections)


def test_default_settings_pass_and_their_pools_fit(home: Home, keys: KeyFiles) -> None:
    checked(home, keys, 300)


def test_pools_together_must_leave_ten_connections(home: Home, keys: KeyFiles) -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_DB_POOL_MAX is too large: 6 processes may open 290"):
        checked(home, keys, 299, FLEETWIRE_DB_POOL_MAX="58")
    checked(home, keys, 300, FLEETWIRE_DB_POOL_MAX="58")
    checked(home, keys, None, FLEETWIRE_DB_POOL_MAX="900")
    checked(home, keys, 300, FLEETWIRE_API_WORKERS="2")
    with pytest.raises(SettingsError, match=r"may open 338 connections .* FLEETWIRE_API_WORKERS"):
        checked(home, keys, 300, FLEETWIRE_API_WORKERS="3")


def test_mistakes_of_all_processes_are_said_once_and_together(home: Home, keys: KeyFiles) -> None:
    with pytest.raises(SettingsError) as caught:
        checked(home, keys, 300, FLEETWIRE_LOG_LEVEL="loud", FLEETWIRE_API_TICKET_S="3600")
    assert len(caught.value.problems) == 2
