"""The edge in a cluster: it knows every hub that there may be, finds what it is told of, and has the time it needs."""

import re
from pathlib import Path

import yaml

from tests.infra.k8s.rendering import K8S, of_kind, rendered

EDGE = K8S.parent / "haproxy" / "edge"
ALL = rendered("overlays/production")
[POD] = [of_kind(ALL, "Deployment")["fleetwire-edge"]["spec"]["template"]["spec"]]
[CONTAINER] = POD["containers"]
ENV = {item["name"]: item.get("value", "") for item in CONTAINER["env"]}
CONFIGURATION = (EDGE / "edge.cfg").read_text()


def servers(file: Path) -> dict[str, str]:
    return dict(re.findall(r'^    server (\S+) "?([^" ]+)"? port 9101$', file.read_text(), re.MULTILINE))


def test_it_knows_as_many_hubs_and_instances_as_the_autoscalers_may_make() -> None:
    scalers = of_kind(ALL, "ScaledObject")
    most = scalers["fleetwire-hub"]["spec"]["maxReplicaCount"]
    hubs = of_kind(ALL, "StatefulSet")["fleetwire-hub"]["spec"]
    assert servers(EDGE / "hubs-kubernetes.cfg") == {
        f"fleetwire-hub-{n}": f"fleetwire-hub-{n}.{hubs['serviceName']}.${{EDGE_DOMAIN}}:8101" for n in range(most)
    }
    assert int(ENV["EDGE_API_INSTANCES"]) == scalers["fleetwire-api"]["spec"]["maxReplicaCount"]
    assert int(ENV["EDGE_FILES_INSTANCES"]) >= of_kind(ALL, "Deployment")["fleetwire-files"]["spec"]["replicas"]


def test_the_rules_for_hubs_are_the_same_everywhere() -> None:
    def rules(name: str) -> list[str]:
        lines = (EDGE / name).read_text().splitlines()
        return [line for line in lines if not line.startswith(("    server ", "#"))]

    assert rules("hubs-kubernetes.cfg") == rules("hubs-compose.cfg")


def test_every_variable_is_given_and_none_is_for_nothing() -> None:
    hosts = next(one for name, one in of_kind(ALL, "ConfigMap").items() if name.startswith("fleetwire-edge-hosts-"))
    used = set(re.findall(r"\$\{(EDGE_\w+)\}", CONFIGURATION + (EDGE / "hubs-kubernetes.cfg").read_text()))
    given = {name for name in ENV if name.startswith("EDGE_")} | set(hosts["data"])
    assert used == given


def test_it_leads_to_services_of_ours_by_whole_names() -> None:
    services = of_kind(ALL, "Service")
    assert ENV["EDGE_DOMAIN"] == "$(POD_NAMESPACE).svc.cluster.local"
    for variable in ("EDGE_API", "EDGE_FILES"):
        found = re.fullmatch(r"([a-z-]+)\.\$\(EDGE_DOMAIN\):(\d+)", ENV[variable])
        assert found is not None
        service = services[found[1]]["spec"]
        # Each instance is found by an address of its own.
        assert service["clusterIP"] == "None"
        ports = {port["name"]: port["port"] for port in service["ports"]}
        assert ports == {"http": int(found[2]), "operations": int(ENV[f"{variable}_OPS_PORT"])}


def test_old_sockets_are_cut_before_the_cluster_kills_the_proxy() -> None:
    cut = re.search(r"hard-stop-after (\d+)s", CONFIGURATION)
    assert cut is not None
    before = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] >= int(cut[1]) + before + 5


def test_devices_are_told_the_names_that_the_edge_answers_to() -> None:
    maps = {name.rpartition("-")[0]: one["data"] for name, one in of_kind(ALL, "ConfigMap").items()}
    hosts, told = maps["fleetwire-edge-hosts"], maps["fleetwire-addresses"]
    assert told["FLEETWIRE_PROXY_URL"] == f"wss://{hosts['EDGE_SOCKETS_HOST']}"
    assert told["FLEETWIRE_FILES_URL"] == f"https://{hosts['EDGE_FILES_HOST']}"
    hub = of_kind(ALL, "StatefulSet")["fleetwire-hub"]["spec"]["template"]["spec"]["containers"][0]
    assert any(
        source.get("configMapRef", {}).get("name", "").startswith("fleetwire-addresses") for source in hub["envFrom"]
    )
    # The ingress of the other overlay has the same names.
    [ingress] = list(yaml.safe_load_all((K8S / "ingress" / "ingress.yaml").read_text()))
    assert sorted(ingress["spec"]["tls"][0]["hosts"]) == sorted(hosts.values())
