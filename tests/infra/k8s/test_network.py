"""The network policies, read as a cluster reads them: the whole table of who reaches whom, and nothing else."""

from typing import Any

from tests.infra.k8s.rendering import Manifest, of_kind, pods, rendered

ALL = [*rendered("overlays/production"), *rendered("migrate-pre")]
POLICIES = list(of_kind(ALL, "NetworkPolicy").values())
LABELS = {pod["metadata"]["labels"]["app.kubernetes.io/name"]: pod["metadata"]["labels"] for pod in pods(ALL).values()}
NAMES = sorted(LABELS)


def _matches(selector: Manifest, name: str) -> bool:
    assert set(selector) <= {"matchLabels"}
    wanted: dict[str, str] = selector.get("matchLabels", {})
    own: dict[str, str] = LABELS[name]
    return wanted.items() <= own.items()


def _of(name: str, direction: str) -> list[Manifest]:
    """The policies that bind a pod in one direction."""
    return [
        policy["spec"]
        for policy in POLICIES
        if direction in policy["spec"]["policyTypes"] and _matches(policy["spec"]["podSelector"], name)
    ]


def _admits(rules: list[Manifest], peer: str, port: int, key: str) -> bool:
    for rule in rules:
        ports = rule.get("ports")
        if ports is not None and not any(one["port"] == port and one.get("protocol", "TCP") == "TCP" for one in ports):
            continue
        peers = rule.get(key)
        if peers is None or any("podSelector" in one and _matches(one["podSelector"], peer) for one in peers):
            return True
    return False


def reaches(source: str, target: str, port: int) -> bool:
    """Only if the one may go out and the other may be come to."""
    out = _of(source, "Egress")
    into = _of(target, "Ingress")
    assert out, f"{source} is bound by nothing"
    assert into, f"{target} is bound by nothing"
    leaves = any(_admits(policy.get("egress", []), target, port, "to") for policy in out)
    enters = any(_admits(policy.get("ingress", []), source, port, "from") for policy in into)
    return leaves and enters


def open_ports(manifests: list[Manifest]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for pod in pods(manifests).values():
        name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
        for container in pod["spec"]["containers"]:
            found.setdefault(name, set()).update(port["containerPort"] for port in container.get("ports", ()))
    return found


SERVERS = ("postgres", "postgres-copies")


def short(name: str) -> str:
    return name.removeprefix("fleetwire-")


def test_who_reaches_whom_is_this_and_nothing_else() -> None:
    table = {
        (short(source), short(target), port)
        for target, ports in open_ports(ALL).items()
        for port in ports
        for source in NAMES
        if reaches(source, target, port)
    }
    assert table == {
        ("edge", "api", 8080),
        ("edge", "api", 9000),
        ("edge", "files", 8090),
        ("edge", "files", 9400),
        ("edge", "hub", 8101),
        ("edge", "hub", 9101),
        ("api", "hub", 9101),
        ("api", "files", 8090),
        *((process, "pgbouncer", 6432) for process in ("api", "hub", "watcher", "worker")),
        ("pgbouncer", "postgres", 5432),
        # Lists are read from copies, and migrations go past the pooler.
        *((process, server, 5432) for process in ("api", "migrate") for server in SERVERS),
        *((process, "redis", 6379) for process in ("api", "hub", "watcher", "worker", "redis-keeper")),
        ("redis", "redis", 6379),
        ("redis", "redis", 16379),
        *((one, other, port) for one in SERVERS for other in SERVERS for port in (5432, 8008)),
    }


def _blocks(name: str, direction: str) -> list[Any]:
    key, peers = ("egress", "to") if direction == "Egress" else ("ingress", "from")
    return [
        (one.get("ipBlock", {}).get("cidr"), [port["port"] for port in rule.get("ports", ())])
        for policy in _of(name, direction)
        for rule in policy.get(key, ())
        for one in rule.get(peers, [{"ipBlock": {"cidr": "anybody"}}])
        if "ipBlock" in one
    ]


def test_only_the_edge_is_reached_from_outside_and_the_inside_goes_out_to_the_internet_alone() -> None:
    for name in NAMES:
        from_outside = _blocks(name, "Ingress")
        assert from_outside == ([("anybody", [8443, 8080])] if short(name) == "edge" else []), name
        for cidr, ports in _blocks(name, "Egress"):
            # Whoever finds the resolver finds it wherever it is, and Patroni the cluster's own API.
            anybody = [("anybody", [53, 53])] + [("anybody", [443, 6443])] * (short(name) in SERVERS)
            assert (cidr, ports) in [*anybody, ("0.0.0.0/0", [443]), ("::/0", [443])], name
    outbound = {short(name) for name in NAMES if ("0.0.0.0/0", [443]) in _blocks(name, "Egress")}
    assert outbound == {"api", "hub", "watcher", "worker", "files"}


def test_monitoring_reads_operations_ports_and_nothing_else() -> None:
    for pod in pods(ALL).values():
        name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
        operations = {
            port["containerPort"]
            for container in pod["spec"]["containers"]
            for port in container.get("ports", ())
            if port["name"] in ("operations", "metrics")
        }
        allowed = {
            port["port"]
            for policy in _of(name, "Ingress")
            for rule in policy.get("ingress", ())
            for one in rule.get("from", ())
            if one.get("namespaceSelector") == {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}
            for port in rule["ports"]
        }
        assert allowed == operations, name
