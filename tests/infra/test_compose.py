"""The compose file: every key is known, every reference leads somewhere, every process can start with it."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
import yaml
from msgspec import Meta, Struct

from api.settings import Settings as ApiSettings
from files.settings import Settings as FilesSettings
from hub.settings import Settings as HubSettings
from infra.cli import command_names
from infra.command_settings import CommandSettings
from infra.docker.prepare import FOLDER, prepare
from shared.rabbit.address import RabbitAddress
from shared.settings import load
from watcher.settings import Settings as WatcherSettings
from worker.settings import Settings as WorkerSettings

TOP = Path(__file__).parents[2]
NAME = r"^[a-z0-9][a-z0-9._-]*$"
Name = Annotated[str, Meta(pattern=NAME)]
Duration = Annotated[str, Meta(pattern=r"^[0-9]+(ms|s|m)$")]
Bytes = Annotated[str, Meta(pattern=r"^[0-9]+[kmg]$")]
Pinned = Annotated[str, Meta(pattern=r"^[a-z0-9/-]+:[0-9]+(\.[0-9]+)+(@sha256:[0-9a-f]{64})?$")]
Port = Annotated[str, Meta(pattern=r"^\$\{FLEETWIRE_BIND:-127\.0\.0\.1\}:[0-9]+:[0-9]+$")]

SETTINGS: dict[str, Any] = {
    "api": ApiSettings,
    "hub": HubSettings,
    "watcher": WatcherSettings,
    "worker": WorkerSettings,
    "files": FilesSettings,
    "migrate": CommandSettings,
}
CLOUD = ("api", "watcher", "worker", "files")


class Strict(Struct, forbid_unknown_fields=True):
    """No key but those that are written down here."""


class Build(Strict):
    context: str
    dockerfile: str


class Healthcheck(Strict):
    test: Annotated[list[str], Meta(min_length=2)]
    interval: Duration
    timeout: Duration
    retries: Annotated[int, Meta(ge=1)]
    start_period: Duration | None = None


class Dependency(Strict):
    condition: Literal["service_started", "service_healthy", "service_completed_successfully"]


class Logging(Strict):
    driver: Literal["json-file"]
    options: dict[str, str]


class Limit(Strict):
    soft: int
    hard: int


class Service(Strict, kw_only=True):
    image: Pinned
    restart: Literal["no", "unless-stopped"]
    cap_drop: list[Literal["ALL"]]
    security_opt: list[Literal["no-new-privileges:true"]]
    logging: Logging
    networks: Annotated[list[Name], Meta(min_length=1)]
    build: Build | None = None
    command: Annotated[list[str], Meta(min_length=1)] | None = None
    environment: dict[Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = {}
    env_file: list[str] = []
    secrets: list[Name] = []
    volumes: list[str] = []
    ports: list[Port] = []
    depends_on: dict[Name, Dependency] = {}
    healthcheck: Healthcheck | None = None
    profiles: list[Literal["rabbit", "tools"]] = []
    user: Annotated[str, Meta(pattern=r"^[1-9][0-9]*:[1-9][0-9]*$")] | None = None
    init: bool = False
    read_only: bool = False
    tmpfs: list[str] = []
    stop_grace_period: Duration | None = None
    shm_size: Bytes | None = None
    mem_limit: Bytes | None = None
    ulimits: dict[Literal["nofile"], Limit] = {}


class Network(Strict):
    internal: bool = False


class Volume(Strict):
    pass


class Secret(Strict):
    file: str


class Compose(Struct, kw_only=True):
    name: Name
    services: dict[Name, Service]
    networks: dict[Name, Network]
    volumes: dict[Name, Volume]
    secrets: dict[Name, Secret]


DOCUMENT: dict[str, Any] = yaml.safe_load((TOP / "docker-compose.yml").read_text("utf-8"))
COMPOSE = msgspec.convert(DOCUMENT, Compose)
OURS = {name: service for name, service in COMPOSE.services.items() if service.image.startswith("fleetwire:")}
PROCESSES = {name: service for name, service in OURS.items() if service.command is not None}


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secrets, as made for a new set-up."""
    folder = tmp_path_factory.mktemp("private")
    prepare(folder)
    return folder


def interpolated(text: str) -> str:
    """With nothing set outside: the default of every variable. One that has none is an error."""
    return re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", text)


def environment_of(service: Service, private: Path) -> dict[str, str]:
    """What the process of a service sees, secrets taken from where they are made."""
    environ: dict[str, str] = {}
    for file in service.env_file:
        lines = (private / Path(file).name).read_text().splitlines()
        environ |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    for name, value in service.environment.items():
        secret = value.removeprefix("/run/secrets/")
        environ[name] = interpolated(value) if secret == value else str(private / secret)
    return environ


def test_no_key_stands_outside_of_the_known_ones() -> None:
    assert {key for key in DOCUMENT if not key.startswith("x-")} == set(Compose.__struct_fields__)


def test_every_network_volume_and_secret_is_declared_and_used() -> None:
    used_networks: set[str] = set()
    used_volumes: set[str] = set()
    used_secrets: set[str] = set()
    for service in COMPOSE.services.values():
        used_networks.update(service.networks)
        used_secrets.update(service.secrets)
        used_volumes.update(source for source, _ in mounts(service) if not source.startswith("."))
    assert used_networks == set(COMPOSE.networks)
    assert used_volumes == set(COMPOSE.volumes)
    assert used_secrets == set(COMPOSE.secrets)


def mounts(service: Service) -> Iterator[tuple[str, str]]:
    for volume in service.volumes:
        source, target, *_ = volume.split(":")
        assert target.startswith("/"), volume
        yield source, target


def test_every_file_that_is_named_exists_or_is_made(private: Path) -> None:
    made = {str(FOLDER / file.name) for file in private.iterdir()}
    assert {secret.file for secret in COMPOSE.secrets.values()} <= made
    for service in COMPOSE.services.values():
        assert set(service.env_file) <= made
        for source, _ in mounts(service):
            assert not source.startswith(".") or (TOP / source).is_file(), source
        if service.build is not None:
            assert (TOP / service.build.context / service.build.dockerfile).is_file()
    given = {file for service in COMPOSE.services.values() for file in service.env_file}
    assert made == given | {secret.file for secret in COMPOSE.secrets.values()}, "something is made that nobody uses"


def test_every_dependency_exists_can_be_met_and_forms_no_circle() -> None:
    for name, service in COMPOSE.services.items():
        for needed, dependency in service.depends_on.items():
            other = COMPOSE.services[needed]
            assert set(other.networks) & set(service.networks), f"{name} cannot reach {needed}"
            if dependency.condition == "service_healthy":
                assert other.healthcheck is not None, f"{name} waits for the health of {needed}"
            assert (dependency.condition == "service_completed_successfully") == (needed == "migrate")

    def depth(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"{name} waits for itself"
        return 1 + max((depth(needed, (*above, name)) for needed in COMPOSE.services[name].depends_on), default=0)

    assert max(depth(name) for name in COMPOSE.services) <= 4


def test_every_process_is_run_by_a_command_of_ours() -> None:
    assert {service.command[0] for service in PROCESSES.values() if service.command} == set(SETTINGS)
    assert set(SETTINGS) <= set(command_names())


@pytest.mark.parametrize("name", sorted(PROCESSES))
def test_every_process_accepts_its_environment_as_it_is(name: str, private: Path) -> None:
    service = PROCESSES[name]
    assert service.command is not None
    settings_class = SETTINGS[service.command[0]]
    environ = environment_of(service, private)
    settings = load(settings_class, environ)
    known = variables(settings_class)
    assert set(service.environment) <= known, "a variable that the process does not know"
    for keys in ("token_key_ring", "ticket_key_ring", "files_hmac_keys"):
        if hasattr(settings, keys) and service.command[0] != "migrate":
            assert getattr(settings, keys)()


def test_stores_are_set_up_for_all_who_need_them_in_one_file(private: Path) -> None:
    lines = (private / "cloud.env").read_text().splitlines()
    given = dict(line.removeprefix("# ").split("=", 1) for line in lines if line.startswith("# FLEETWIRE_"))
    assert {"FLEETWIRE_S3_BUCKET", "FLEETWIRE_DRIVE_ROOTS", "FLEETWIRE_GRAPH_DRIVES"} <= set(given)
    file = str(FOLDER / "cloud.env")
    needed = {name for name, service in PROCESSES.items() if service.command and service.command[0] in CLOUD}
    assert {name for name, service in OURS.items() if file in service.env_file} == {*needed, "cli"}
    for name in needed:
        service = PROCESSES[name]
        assert service.command is not None
        secrets = {value.removeprefix("/run/secrets/") for value in given.values() if value.startswith("/run/")}
        assert secrets <= set(service.secrets)
        assert "front" in service.networks, "it reaches no provider from inside"
        mounted = {key: value.replace("/run/secrets", str(private)) for key, value in given.items()}
        settings = load(SETTINGS[service.command[0]], environment_of(service, private) | mounted)
        assert {"s3", "drive:fleet", "sharepoint:fleet"} <= set(settings.cloud_stores)


def variables(settings_class: Any) -> set[str]:
    return {field.metadata["env"] for field in settings_class.__dataclass_fields__.values()}


def test_only_those_who_sign_have_private_keys() -> None:
    holders = {
        secret: {name for name, service in COMPOSE.services.items() if secret in service.secrets}
        for secret in COMPOSE.secrets
    }
    assert holders["token-keys.json"] == {"cli"}
    assert holders["ticket-keys.json"] == {"api"}
    assert holders["files-keys.json"] == {"api", "files"}
    assert holders["postgres-password"] == {"postgres"}
    assert [file for file in COMPOSE.services["files"].env_file if "database" in file] == []


def test_every_secret_a_service_reads_is_given_to_it() -> None:
    by_file = {
        str(FOLDER / "cloud.env"): ["/run/secrets/cloud-drive-key.json", "/run/secrets/cloud-graph-certificate.pem"]
    }
    for name, service in COMPOSE.services.items():
        words = [*service.environment.values(), *(service.command or [])]
        words += [word for file in service.env_file for word in by_file.get(file, ())]
        read = {word.removeprefix("/run/secrets/") for word in words if word.startswith("/run/secrets/")}
        assert read == set(service.secrets), name


def test_no_password_stands_in_the_file() -> None:
    text = (TOP / "docker-compose.yml").read_text("utf-8")
    for line in text.splitlines():
        if re.search(r"password|token|secret|requirepass", line, re.IGNORECASE) and ":" in line:
            value = line.split(":", 1)[1].strip()
            harmless = ("", "/run/secrets/", "infra/docker/private/", "[", "--auth-host", "service_")
            assert any(value.startswith(one) for one in harmless) or line.lstrip().startswith("#"), line


def test_addresses_between_services_name_services_on_a_common_network(private: Path) -> None:
    for name, service in COMPOSE.services.items():
        environ = environment_of(service, private)
        for variable, value in environ.items():
            for host in re.findall(r"(?:^|/)([a-z][a-z0-9-]*):[0-9]+", re.sub(r"//[^@/]*@", "//", value)):
                assert host in COMPOSE.services, f"{name}: {variable}={value}"
                assert set(COMPOSE.services[host].networks) & set(service.networks), f"{name} cannot reach {host}"


def test_each_process_is_asked_for_its_readiness_at_its_own_operations_port() -> None:
    for name, service in PROCESSES.items():
        if name in ("migrate", "cli"):
            continue
        assert service.healthcheck is not None, name
        port = service.environment["FLEETWIRE_OPS_PORT"]
        assert f"http://127.0.0.1:{port}/ready" in service.healthcheck.test[-1], name


def test_published_ports_are_those_that_the_processes_listen_on() -> None:
    published = {
        name: [port.rsplit(":", 2)[1:] for port in service.ports] for name, service in COMPOSE.services.items()
    }
    assert {name: ports for name, ports in published.items() if ports} == {
        "api": [["8080", "8080"]],
        "proxy": [["8100", "8100"]],
        "files": [["8090", "8090"]],
    }
    assert COMPOSE.services["api"].environment["FLEETWIRE_API_PORT"] == "8080"
    assert COMPOSE.services["files"].environment["FLEETWIRE_FILES_PORT"] == "8090"
    assert COMPOSE.services["proxy"].environment["SOCKETS_BIND"] == ":8100"
    for name, ports in published.items():
        assert not ports or "front" in COMPOSE.services[name].networks
    assert COMPOSE.networks["back"].internal


def test_the_proxy_knows_every_hub_by_its_name_and_nobody_else() -> None:
    configuration = (TOP / "infra" / "haproxy" / "haproxy.cfg").read_text("utf-8")
    servers = dict(re.findall(r'^\s+server (\S+) "\$\{(\w+)\}"', configuration, re.MULTILINE))
    hubs = {name: service for name, service in COMPOSE.services.items() if service.command == ["hub"]}
    assert set(servers) == {service.environment["FLEETWIRE_HUB_NAME"] for service in hubs.values()}
    proxy = COMPOSE.services["proxy"].environment
    for name, hub in hubs.items():
        variable = servers[hub.environment["FLEETWIRE_HUB_NAME"]]
        assert proxy[variable] == f"{name}:{hub.environment['FLEETWIRE_HUB_PORT']}"
        assert proxy[f"{variable}_OPS_PORT"] == hub.environment["FLEETWIRE_OPS_PORT"]
        assert hub.environment["FLEETWIRE_HUB_URL"] == f"ws://{proxy[variable]}"
    assert set(re.findall(r"\$\{(\w+)\}", configuration)) == set(proxy)


def test_all_who_open_the_cloud_folder_have_it_on_one_mount_with_its_drafts() -> None:
    users = {name for name, service in COMPOSE.services.items() if "FLEETWIRE_CLOUD_ROOT" in service.environment}
    assert users == {"watcher", "worker", "files"}
    for name in users:
        service = COMPOSE.services[name]
        (target,) = [target for source, target in mounts(service) if source == "cloud"]
        # Drafts are linked into place, and a link does not lead from one mount to another.
        assert Path(service.environment["FLEETWIRE_CLOUD_ROOT"]).parent == Path(target)
        assert "FLEETWIRE_CLOUD_TMP" not in service.environment


def test_our_containers_can_write_only_where_they_must() -> None:
    for name, service in OURS.items():
        assert service.read_only, name
        assert service.cap_drop == ["ALL"], name
        assert service.tmpfs, name


def test_hubs_send_devices_on_through_the_proxy_that_the_api_sends_them_to() -> None:
    assigned = COMPOSE.services["api"].environment["FLEETWIRE_PROXY_URL"]
    for name in ("hub-1", "hub-2"):
        assert COMPOSE.services[name].environment["FLEETWIRE_PROXY_URL"] == assigned


def test_a_hub_is_given_the_time_it_needs_to_drain(private: Path) -> None:
    for name in ("hub-1", "hub-2"):
        settings = load(HubSettings, environment_of(COMPOSE.services[name], private))
        grace = COMPOSE.services[name].stop_grace_period
        assert grace is not None
        assert int(grace.removesuffix("s")) >= settings.drain_s + settings.flush_s + settings.close_s + 5


def test_who_uses_the_broker_of_its_profile_is_told_its_password(private: Path) -> None:
    first, *lines = (private / "rabbitmq.conf").read_text().splitlines()
    settings = dict(line.split(" = ", 1) for line in lines)
    address = RabbitAddress.from_url(first.removeprefix("# "))
    assert (address.user, address.password) == (settings["default_user"], settings["default_pass"])
    assert address.hosts == (("rabbit", int(settings["listeners.tcp.default"])),)
    assert COMPOSE.services["rabbit"].profiles == ["rabbit"]
    for name in ("api", "watcher", "worker"):
        assert COMPOSE.services[name].environment["FLEETWIRE_QUEUE_URL"] == "${FLEETWIRE_QUEUE_URL:-}"
