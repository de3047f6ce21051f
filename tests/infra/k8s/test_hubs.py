"""The manifests of the hubs: right for the hub's own settings, one with the policy."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from hub.settings import Settings
from hub.trusted_proxies import TrustedProxies
from infra.scaling.policy import TARGET, TOLERANCE, Rules
from shared.settings import load

K8S = Path(__file__).parents[3] / "infra" / "k8s"
FULLEST = 1.14
FOLDERS = ("hubs", "hubs-hpa", "hubs-keda")


def documents(file: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(file.read_text()) if document]


def manifests() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(file for folder in FOLDERS for file in (K8S / folder).glob("*.yaml")):
        if file.name != "kustomization.yaml":
            for document in documents(file):
                yield f"{file.parent.name}/{file.name} {document['kind']}", document


def one(kind: str, name: str = "fleetwire-hub") -> dict[str, Any]:
    [found] = [doc for _, doc in manifests() if doc["kind"] == kind and doc["metadata"]["name"] == name]
    return found


MANIFESTS = dict(manifests())
SPEC: dict[str, Any] = one("StatefulSet")["spec"]
POD: dict[str, Any] = SPEC["template"]["spec"]
[HUB] = POD["containers"]
ENV = {item["name"]: item for item in HUB["env"]}


# What a trigger is told is free text for KEDA's resource definition, so its names are held to here.
class Target(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    api_version: Literal["apps/v1"]
    kind: Literal["StatefulSet"]
    name: str


class Prometheus(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    server_address: str
    query: str
    threshold: str
    ignore_null_values: Literal["false"]


class Trigger(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    type: Literal["prometheus"]
    metric_type: Literal["AverageValue"]
    metadata: Prometheus


class Autoscaler(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    behavior: dict[str, Any]


class Advanced(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    horizontal_pod_autoscaler_config: Autoscaler


class ScaledObjectSpec(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    scale_target_ref: Target
    polling_interval: int
    min_replica_count: int
    max_replica_count: int
    advanced: Advanced
    triggers: tuple[Trigger]


class ScaledObject(msgspec.Struct, rename="camel", forbid_unknown_fields=True):
    api_version: Literal["keda.sh/v1alpha1"]
    kind: Literal["ScaledObject"]
    metadata: dict[str, str]
    spec: ScaledObjectSpec


def scaled_object() -> ScaledObjectSpec:
    return msgspec.convert(one("ScaledObject"), ScaledObject).spec


def test_keda_and_the_autoscaler_say_the_numbers_of_the_policy() -> None:
    rules, keda, hpa = Rules(), scaled_object(), one("HorizontalPodAutoscaler")["spec"]
    behavior = {
        "scaleUp": {
            "stabilizationWindowSeconds": 0,
            "policies": [{"type": "Pods", "value": rules.up.count, "periodSeconds": rules.up.period_s}],
        },
        "scaleDown": {
            "stabilizationWindowSeconds": rules.quiet_s,
            "policies": [{"type": "Pods", "value": rules.down.count, "periodSeconds": rules.down.period_s}],
        },
    }
    assert keda.advanced.horizontal_pod_autoscaler_config.behavior == hpa["behavior"] == behavior
    assert (keda.min_replica_count, keda.max_replica_count) == (rules.hubs_min, rules.hubs_max)
    assert (hpa["minReplicas"], hpa["maxReplicas"]) == (rules.hubs_min, rules.hubs_max)
    [trigger], [metric] = keda.triggers, hpa["metrics"]
    assert trigger.metadata.threshold == str(rules.target)
    assert metric["pods"]["target"] == {"type": "AverageValue", "averageValue": str(rules.target)}
    assert hpa["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": keda.scale_target_ref.name}
    # The tolerance is the cluster's default, which neither says and the policy has.
    assert rules.tolerance == TOLERANCE == 0.1
    assert not re.search("tolerance", str(behavior))


def test_the_numbers_in_the_query_are_those_of_the_policy() -> None:
    [trigger] = scaled_object().triggers
    query = trigger.metadata.query
    assert set(re.findall(r"(?<![a-z0-9.])\d{3}(?![0-9s])", query)) == {str(TARGET)}
    assert f"> {1 + TOLERANCE} * {TARGET} * count(" in query
    # Just enough above the tolerance to be one more; and the fullest is well below the 440 of a hub that has too many.
    assert f"{1 + TOLERANCE + 0.01} * {TARGET} * count(" in query
    assert FULLEST * TARGET < 420
    assert query.count(f"> {FULLEST} * {TARGET}") == 2


def test_an_autoscaler_keeps_hubs_below_the_cap() -> None:
    assert TARGET * (1 + TOLERANCE) < int(ENV["FLEETWIRE_HUB_CAPACITY"]["value"]) == 500


def test_the_autoscaler_alone_says_how_many_hubs_there_are() -> None:
    assert "replicas" not in SPEC


def test_a_hub_is_named_by_its_pod_and_reads_what_it_is_given() -> None:
    assert ENV["FLEETWIRE_HUB_NAME"]["value"] == "$(POD_NAME)"
    given = {name: item["value"] for name, item in ENV.items() if "value" in item}
    known = {"POD_NAME": "fleetwire-hub-0", "POD_NAMESPACE": "fleetwire"}
    environment = {name: re.sub(r"\$\((\w+)\)", lambda m: known[m[1]], value) for name, value in given.items()}
    secrets = {
        "FLEETWIRE_DATABASE_URL": "postgresql://h/d",
        "FLEETWIRE_REDIS_URL": "redis://h:1/0",
        "FLEETWIRE_OPS_TOKEN": "0123456789abcdef",
    }
    settings = load(Settings, environment | secrets)
    assert settings.name == "fleetwire-hub-0"
    assert settings.url == f"ws://fleetwire-hub-0.{SPEC['serviceName']}.fleetwire.svc:8101"
    assert settings.ops_url == f"http://fleetwire-hub-0.{SPEC['serviceName']}.fleetwire.svc:{settings.ops_port}"
    assert {port["name"]: port["containerPort"] for port in HUB["ports"]} == {
        "sockets": settings.port,
        "operations": settings.ops_port,
    }
    # A device behind the ingress counts by its own address.
    assert settings.trusted_proxies.client("10.1.2.3", ["203.0.113.7"]) == "203.0.113.7"
    assert [ref["secretRef"]["name"] for ref in HUB["envFrom"]] == ["fleetwire-database", "fleetwire-operations"]


def test_variables_are_known_before_they_are_used() -> None:
    names = list(ENV)
    for name, item in ENV.items():
        for used in re.findall(r"\$\((\w+)\)", item.get("value", "")):
            assert names.index(used) < names.index(name), f"{name} uses {used}, which comes later"


def test_a_hub_is_given_the_time_that_draining_takes() -> None:
    settings = load(
        Settings,
        {
            "FLEETWIRE_HUB_NAME": "h",
            "FLEETWIRE_DATABASE_URL": "postgresql://h/d",
            "FLEETWIRE_REDIS_URL": "redis://h:1/0",
        },
    )
    longest = settings.drain_s + settings.move_wave_s + settings.linger_s + settings.close_s + settings.flush_s + 5.0
    assert POD["terminationGracePeriodSeconds"] >= longest


def test_health_is_slow_and_readiness_fast() -> None:
    def lost_after(probe: dict[str, Any]) -> int:
        return int(probe["periodSeconds"] * probe["failureThreshold"])

    assert HUB["livenessProbe"]["httpGet"] == {"path": "/health", "port": "operations"}
    assert HUB["readinessProbe"]["httpGet"] == {"path": "/ready", "port": "operations"}
    assert lost_after(HUB["readinessProbe"]) <= 5 < 30 <= lost_after(HUB["livenessProbe"])


def test_a_hub_may_do_nothing_but_its_work() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert HUB["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert POD["automountServiceAccountToken"] is False
    assert {mount["name"] for mount in HUB["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    dockerfile = (K8S.parent / "docker" / "Dockerfile").read_text()
    assert f"USER {POD['securityContext']['runAsUser']}:{POD['securityContext']['runAsGroup']}" in dockerfile


def test_everything_selects_the_hubs() -> None:
    labels = SPEC["template"]["metadata"]["labels"]
    assert SPEC["selector"]["matchLabels"] == labels == one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]
    for name in ("fleetwire-hub", "fleetwire-hubs"):
        service = one("Service", name)["spec"]
        assert service["selector"] == labels
        assert {port["targetPort"] for port in service["ports"]} <= {port["name"] for port in HUB["ports"]}
    stable = one("Service", SPEC["serviceName"])["spec"]
    assert (stable["clusterIP"], stable["publishNotReadyAddresses"]) == ("None", True)


def test_the_examples_patch_changes_the_address_and_keeps_it_behind_the_name() -> None:
    [content] = documents(K8S / "example" / "kustomization.yaml")
    [patch] = content["patches"]
    assert patch["target"] == {"kind": "StatefulSet", "name": "fleetwire-hub"}
    steps = yaml.safe_load(patch["patch"])
    changed = {}
    for check, change in zip(steps[::2], steps[1::2], strict=True):
        place = re.fullmatch(r"/spec/template/spec/containers/0/env/(\d+)/name", check["path"])
        assert place is not None
        assert (check["op"], change["op"]) == ("test", "replace")
        assert list(ENV)[int(place[1])] == check["value"]
        assert change["path"] == check["path"].replace("/name", "/value")
        changed[check["value"]] = change["value"]
    assert list(changed) == ["FLEETWIRE_HUB_URL", "FLEETWIRE_TRUSTED_PROXIES"]
    assert "$(POD_NAME)" in changed["FLEETWIRE_HUB_URL"]
    assert TrustedProxies.parse(changed["FLEETWIRE_TRUSTED_PROXIES"]).trusts("10.244.1.7")
    [images] = [one["images"] for one in documents(K8S / "images" / "kustomization.yaml")]
    assert HUB["image"] in {image["name"] for image in images}
