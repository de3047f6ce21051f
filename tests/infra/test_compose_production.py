"""docker-compose.production.yml: valid by the schema of compose files, closed but for the edge, complete."""

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from infra.docker.prepare import FOLDER, prepare
from shared.settings import load
from tests.infra.test_compose import SETTINGS, variables

TOP = Path(__file__).parents[2]
FILE = TOP / "docker-compose.production.yml"
GIVEN = {
    "FLEETWIRE_IMAGE": "images.example.com/fleetwire@sha256:" + "0" * 64,
    "PGBOUNCER_IMAGE": "images.example.com/fleetwire-pgbouncer@sha256:" + "1" * 64,
    "EDGE_API_HOST": "api.example.com",
    "EDGE_SOCKETS_HOST": "sockets.example.com",
    "EDGE_FILES_HOST": "files.example.com",
    "EDGE_CERTIFICATE_FILE": "/etc/fleetwire/edge.pem",
    **{f"{name}_DIGEST": "sha256:" + "2" * 64 for name in ("POSTGRES", "HAPROXY", "VALKEY", "PROMETHEUS", "GRAFANA")},
}
PINNED = re.compile(r"[a-z0-9./-]+(:v?[0-9][0-9.]*)?@sha256:[0-9a-f]{64}")


def interpolated(text: str, given: dict[str, str]) -> str:
    """As compose does: a variable that must be given and is not is an error."""

    def value(match: re.Match[str]) -> str:
        name, must, why = match["name"], match["must"], match["why"]
        if not given.get(name) and must:
            raise LookupError(f"{name}: {why}")
        return given[name]

    return re.sub(r"\$\{(?P<name>[A-Z_]+)(?P<must>:\?)?(?P<why>[^}]*)\}", value, text)


DOCUMENT: dict[str, Any] = yaml.safe_load(interpolated(FILE.read_text("utf-8"), GIVEN))
SERVICES: dict[str, Any] = DOCUMENT["services"]
PROCESSES = {
    name: one for name, one in SERVICES.items() if one["image"] == GIVEN["FLEETWIRE_IMAGE"] and "command" in one
}
SCHEMA = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("private")
    prepare(folder, production=True)
    return folder


def problems(document: dict[str, Any]) -> list[str]:
    validator = jsonschema_rs.validator_for(SCHEMA)
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("name", ["docker-compose.yml", "docker-compose.production.yml"])
def test_it_is_valid_by_the_schema_of_compose_files(name: str) -> None:
    assert problems(yaml.safe_load((TOP / name).read_text("utf-8"))) == []
    assert problems(DOCUMENT) == []
    for place, wrong in (("restrat", "always"), ("healthcheck", {"tset": ["CMD"]}), ("deploy", {"replicas": []})):
        spoilt = copy.deepcopy(DOCUMENT)
        spoilt["services"]["api"][place] = wrong
        assert problems(spoilt), place


def test_without_a_digest_or_a_name_it_does_not_start_and_says_which() -> None:
    for missing in GIVEN:
        with pytest.raises(LookupError, match=missing):
            interpolated(FILE.read_text("utf-8"), {name: value for name, value in GIVEN.items() if name != missing})


def test_every_image_is_one_digest() -> None:
    for name, service in SERVICES.items():
        assert PINNED.fullmatch(service["image"]), name
        assert "build" not in service, f"{name} would run what was not tested"


def test_only_the_edge_is_reached_from_outside() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published.pop("edge") == ["443:8443", "80:8080"]
    assert all(port.startswith("127.0.0.1:") for ports in published.values() for port in ports), published
    assert set(published) == {"prometheus", "grafana"}
    assert DOCUMENT["networks"]["back"]["internal"] is True


def test_a_pair_meets_in_one_network_and_who_needs_whom_meets() -> None:
    for one, other in (("edge", "api"), ("edge", "files"), ("prometheus", "api"), ("prometheus", "edge")):
        assert len(set(SERVICES[one]["networks"]) & set(SERVICES[other]["networks"])) == 1, (one, other)
    for name, service in SERVICES.items():
        for needed, how in service.get("depends_on", {}).items():
            assert set(service["networks"]) & set(SERVICES[needed]["networks"]), (name, needed)
            if how["condition"] == "service_healthy":
                assert "healthcheck" in SERVICES[needed], (name, needed)
    for name in ("postgres", "postgres-copy-1", "valkey", "pgbouncer", "hub-1"):
        assert SERVICES[name]["networks"] == ["back"], f"{name} has no business outside"


def test_hubs_believe_the_network_by_which_the_edge_comes() -> None:
    [subnet] = [one["subnet"] for one in DOCUMENT["networks"]["back"]["ipam"]["config"]]
    for name in ("hub-1", "hub-2", "hub-3"):
        assert SERVICES[name]["environment"]["FLEETWIRE_TRUSTED_PROXIES"] == subnet


def test_nobody_has_more_rights_or_memory_than_is_needed() -> None:
    for name, service in SERVICES.items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "mem_limit" in service, name
        assert service["logging"]["options"]["max-size"], name
        assert service["restart"] in ("unless-stopped", "no"), name
        assert service.get("user", "1:1").split(":")[0] != "0", name


def _lines(file: Path) -> list[str]:
    return [line for line in file.read_text().splitlines() if line and not line.startswith("#")]


def _environment(name: str, private: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for file in SERVICES[name].get("env_file", ()):
        found |= dict(line.split("=", 1) for line in _lines(private / Path(file).name))
    for variable, value in SERVICES[name].get("environment", {}).items():
        secret = value.removeprefix("/run/secrets/")
        found[variable] = value if secret == value else str(private / secret)
    return found


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_every_process_accepts_its_environment(name: str, private: Path) -> None:
    process = PROCESSES[name]["command"][0]
    environment = _environment(name, private)
    settings = load(SETTINGS[process], environment)
    assert set(PROCESSES[name].get("environment", ())) <= variables(SETTINGS[process])
    if process == "api":
        assert len(settings.replica_urls) == 2
        assert "@pgbouncer:6432/" in settings.database_url
    if process == "migrate":
        assert "@postgres:5432/" in settings.database_url


def test_the_pooler_has_room_for_all_pools_and_postgres_for_the_pooler(private: Path) -> None:
    ini = dict(re.findall(r"^(\w+) = (.*)$", (TOP / "infra/compose/pgbouncer/pgbouncer.ini").read_text(), re.MULTILINE))
    pools = sum(
        load(SETTINGS[one["command"][0]], _environment(name, private)).db_pool_max
        * one.get("deploy", {}).get("replicas", 1)
        for name, one in PROCESSES.items()
        if one["command"][0] in ("api", "hub", "watcher", "worker")
    )
    assert pools < int(ini["max_client_conn"])
    conf = (TOP / "infra/compose/postgres/postgresql.conf").read_text()
    [connections] = re.findall(r"^max_connections = (\d+)$", conf, re.MULTILINE)
    assert int(ini["default_pool_size"]) + int(ini["reserve_pool_size"]) < int(connections) - 10
    assert float(ini["query_wait_timeout"]) <= 5


def test_copies_are_called_what_the_primary_waits_for() -> None:
    conf = (TOP / "infra/compose/postgres/postgresql.conf").read_text()
    [names] = re.findall(r"^synchronous_standby_names = 'ANY 1 \((.*)\)'$", conf, re.MULTILINE)
    called = [one["environment"]["COPY_NAME"] for one in SERVICES.values() if "COPY_NAME" in one.get("environment", {})]
    assert names.split(", ") == sorted(called)


def _mounts() -> Iterator[tuple[str, str]]:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", ()):
            yield name, volume.split(":")[0]


def test_everything_named_is_there_and_everything_made_is_used(private: Path) -> None:
    used = {source for _, source in _mounts()}
    for source in used:
        assert (TOP / source).exists() if source.startswith(".") else source in DOCUMENT["volumes"], source
    assert {source for source in used if not source.startswith(".")} == set(DOCUMENT["volumes"])
    networks = {network for service in SERVICES.values() for network in service["networks"]}
    assert networks == set(DOCUMENT["networks"])
    secrets = {secret for service in SERVICES.values() for secret in service.get("secrets", ())}
    assert secrets == set(DOCUMENT["secrets"])
    for name, service in SERVICES.items():
        words = " ".join([*map(str, service.get("environment", {}).values()), *service.get("command", ())])
        for secret in re.findall(r"/run/secrets/([a-z0-9.-]+)", words):
            assert secret in service["secrets"], (name, secret)
    files_used = {str(one["file"]) for one in DOCUMENT["secrets"].values()} | {
        file for service in SERVICES.values() for file in service.get("env_file", ())
    }
    made = {str(FOLDER / file.name) for file in private.iterdir()}
    assert files_used - {GIVEN["EDGE_CERTIFICATE_FILE"]} == made - {str(FOLDER / "rabbitmq.conf")}


def test_only_those_who_sign_have_private_keys() -> None:
    def holders(secret: str) -> set[str]:
        return {name for name, service in SERVICES.items() if secret in service.get("secrets", ())}

    assert holders("token-keys.json") == {"cli"}
    assert holders("ticket-keys.json") == {"api"}
    assert holders("files-keys.json") == {"api", "files"}
    assert holders("edge.pem") == {"edge"}
    assert not [file for file in SERVICES["files"]["env_file"] if "operations" not in file and "cloud" not in file]


def test_the_edge_is_told_of_everybody_and_knows_every_hub() -> None:
    edge = TOP / "infra" / "haproxy" / "edge"
    used = set(
        re.findall(r"\$\{(EDGE_\w+)\}", (edge / "edge.cfg").read_text() + (edge / "hubs-compose.cfg").read_text())
    )
    assert used == set(SERVICES["edge"]["environment"])
    hubs = re.findall(r"^    server (\S+) (\S+):8101 port 9101$", (edge / "hubs-compose.cfg").read_text(), re.MULTILINE)
    assert hubs == [(name, name) for name in SERVICES if name.startswith("hub-")]
    for name, _ in hubs:
        assert SERVICES[name]["environment"]["FLEETWIRE_HUB_NAME"] == name
    assert int(SERVICES["edge"]["environment"]["EDGE_API_INSTANCES"]) >= 2 * SERVICES["api"]["deploy"]["replicas"]


def test_prometheus_asks_every_process_where_it_answers() -> None:
    config = yaml.safe_load((TOP / "infra/compose/prometheus/prometheus.yml").read_text("utf-8"))
    asked: dict[str, str] = {}
    for job in config["scrape_configs"]:
        for one in job.get("static_configs", ()):
            asked |= dict.fromkeys(one["targets"], job["job_name"])
        for one in job.get("dns_sd_configs", ()):
            asked |= {f"{name}:{one['port']}": job["job_name"] for name in one["names"]}
    listening = {
        f"{name}:{one['environment']['FLEETWIRE_OPS_PORT']}": f"fleetwire-{one['command'][0]}"
        for name, one in PROCESSES.items()
        if "FLEETWIRE_OPS_PORT" in one.get("environment", {})
    }
    assert asked == listening | {"edge:8405": "haproxy"}


def test_the_scripts_are_ones_that_a_shell_takes() -> None:
    for script in sorted((TOP / "infra/compose").rglob("*.sh")):
        done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
