"""All manifests, built as they would be applied: valid by the real schemas, safe, and consistent among themselves."""

import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.k8s.rendering import K8S, VERSIONS, Manifest, kustomizations, of_kind, pods, problems, rendered

ALL = kustomizations()
APPLIED = [*(folder for folder in ALL if folder.startswith("overlays/")), "example", "migrate-pre", "migrate-post"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", APPLIED)
def test_what_kubectl_builds_is_valid_by_the_schemas_of_the_cluster_and_of_keda(folder: str, version: str) -> None:
    manifests = rendered(folder)
    assert manifests
    found = {f"{one['kind']} {one['metadata']['name']}": problems(one, version) for one in manifests}
    assert not any(found.values()), {name: wrong for name, wrong in found.items() if wrong}


def _spoilt(manifest: Manifest, path: str, value: Any) -> Manifest:
    spoilt = copy.deepcopy(manifest)
    at: Any = spoilt
    *before, last = path.split(".")
    for step in before:
        at = at[int(step)] if isinstance(at, list) else at[step]
    at[last] = value
    return spoilt


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ScaledObject", "spec.maxReplicas", 5),
        ("ScaledObject", "spec.pollingInterval", "15s"),
        ("ScaledObject", "spec.triggers.0.metricKind", "AverageValue"),
        ("ScaledObject", "spec.triggers.0.metadata.threshold", 360),
        ("ScaledObject", "spec.advanced.horizontalPodAutoscalerConfig.behavior.scaleUp.stabilisationWindowSeconds", 0),
        ("StatefulSet", "spec.template.spec.containers.0.readinesProbe", {}),
        ("PodDisruptionBudget", "spec.maxUnavailabel", 1),
    ],
)
def test_the_schemas_refuse_what_is_misspelt(kind: str, path: str, value: Any) -> None:
    manifest = of_kind(rendered("example"), kind)["fleetwire-hub"]
    assert problems(manifest, VERSIONS[-1]) == []
    assert problems(_spoilt(manifest, path, value), VERSIONS[-1])


def test_every_file_belongs_to_a_kustomization_and_every_component_is_used() -> None:
    used: set[str] = set()
    for folder, content in ALL.items():
        patches = [patch["path"] for patch in content.get("patches", ()) if "path" in patch]
        generated = [
            file.split("=")[-1]
            for generator in content.get("configMapGenerator", ())
            for file in (*generator.get("files", ()), *generator.get("envs", ()))
        ]
        named = {*content.get("resources", ()), *content.get("components", ()), *patches, *generated}
        for path in named:
            target = (K8S / folder / path).resolve()
            assert target.is_file() or (target / "kustomization.yaml").is_file(), f"{folder}: {path}"
            if target.is_dir() and target.is_relative_to(K8S):
                used.add(str(target.relative_to(K8S)))
        beside = {file.name for file in (K8S / folder).iterdir() if file.is_file()} - {"kustomization.yaml"}
        assert beside == {path for path in named if (K8S / folder / path).is_file()}, folder
    roots = set(APPLIED)
    assert set(ALL) - used == roots, "made and used by nothing"


def containers(pod: Manifest) -> Iterator[Manifest]:
    yield from pod["spec"].get("initContainers", ())
    yield from pod["spec"]["containers"]


@pytest.mark.parametrize("folder", APPLIED)
def test_no_pod_may_do_more_than_the_restricted_standard_allows(folder: str) -> None:
    for name, pod in pods(rendered(folder)).items():
        spec = pod["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["runAsUser"] > 0, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert spec["enableServiceLinks"] is False, name
        for container in containers(pod):
            where = f"{name} {container['name']}"
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, where
            resources = container["resources"]
            assert {"cpu", "memory"} <= set(resources["requests"]), where
            # Memory has a bound; CPU has none, since a bound on it makes pauses in which acks are late.
            assert set(resources["limits"]) == {"memory"}, where
            assert not [port for port in container.get("ports", ()) if "hostPort" in port], where
        for volume in spec.get("volumes", ()):
            assert "hostPath" not in volume, name


@pytest.mark.parametrize("folder", APPLIED)
def test_secrets_are_named_and_never_written_down(folder: str) -> None:
    for manifest in rendered(folder):
        assert manifest["kind"] != "Secret"
    for name, pod in pods(rendered(folder)).items():
        for container in containers(pod):
            for item in container.get("env", ()):
                if re.search("PASSWORD|SECRET|TOKEN$|_KEY$|DATABASE_URL|REDIS_URL", item["name"]) and "value" in item:
                    assert item["value"].startswith("/run/secrets/"), f"{name}: {item['name']}"


@pytest.mark.parametrize("folder", APPLIED)
def test_what_a_pod_mounts_and_names_is_there(folder: str) -> None:
    manifests = rendered(folder)
    for name, pod in pods(manifests).items():
        spec = pod["spec"]
        volumes = {volume["name"]: volume for volume in spec.get("volumes", ())}
        claims = {
            template["metadata"]["name"]
            for one in of_kind(manifests, "StatefulSet").values()
            if one["spec"]["template"] is pod
            for template in one["spec"].get("volumeClaimTemplates", ())
        }
        mounted = {mount["name"] for container in containers(pod) for mount in container.get("volumeMounts", ())}
        assert mounted == set(volumes) | claims, name
        known = {
            "configMap": set(of_kind(manifests, "ConfigMap")),
            "persistentVolumeClaim": set(of_kind(manifests, "PersistentVolumeClaim")),
        }
        for volume in volumes.values():
            if "configMap" in volume:
                assert volume["configMap"]["name"] in known["configMap"], name
            if "persistentVolumeClaim" in volume:
                assert volume["persistentVolumeClaim"]["claimName"] in known["persistentVolumeClaim"], name
        for container in containers(pod):
            for source in container.get("envFrom", ()):
                if "configMapRef" in source:
                    assert source["configMapRef"]["name"] in known["configMap"], f"{name}: {source}"
        account = spec.get("serviceAccountName")
        assert account is None or account in of_kind(manifests, "ServiceAccount"), name


@pytest.mark.parametrize("folder", APPLIED)
def test_selectors_find_the_pods_they_are_for_and_ports_exist(folder: str) -> None:
    manifests = rendered(folder)
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    # One of them has this one, too, and Patroni says which.
    leads = {"fleetwire.io/postgres-role": "primary"}
    labels |= {name: own | leads for name, own in labels.items() if name == "StatefulSet/fleetwire-postgres"}

    def selected(selector: Manifest) -> list[str]:
        return [name for name, own in labels.items() if selector.items() <= own.items()]

    for name, one in of_kind(manifests, "Deployment", "StatefulSet").items():
        selector = one["spec"]["selector"]["matchLabels"]
        assert selected(selector) == [f"{one['kind']}/{name}"], "two sets of pods would fight over each other's"
    for name, service in of_kind(manifests, "Service").items():
        found = selected(service["spec"]["selector"])
        assert found, name
        for port in service["spec"]["ports"]:
            for pod in found:
                offered = {own["name"] for c in containers(pods(manifests)[pod]) for own in c.get("ports", ())}
                assert port["targetPort"] in offered, f"{name}: {port}"
    for name, budget in of_kind(manifests, "PodDisruptionBudget").items():
        assert selected(budget["spec"]["selector"]["matchLabels"]), name


@pytest.mark.parametrize("folder", APPLIED)
def test_all_that_runs_more_than_once_has_a_budget_for_disruptions_and_is_spread(folder: str) -> None:
    manifests = rendered(folder)
    budgets = [one["spec"]["selector"]["matchLabels"] for one in of_kind(manifests, "PodDisruptionBudget").values()]
    for name, one in of_kind(manifests, "Deployment", "StatefulSet").items():
        if one["spec"].get("replicas") == 1:
            continue
        own = one["spec"]["template"]["metadata"]["labels"]
        assert [budget for budget in budgets if budget.items() <= own.items()], name
        assert one["spec"]["template"]["spec"].get("topologySpreadConstraints"), name


@pytest.mark.parametrize("folder", APPLIED)
def test_whoever_is_scaled_says_no_number_itself_and_is_there(folder: str) -> None:
    manifests = rendered(folder)
    sets = of_kind(manifests, "Deployment", "StatefulSet")
    for scaler in [one for one in manifests if one["kind"] in ("ScaledObject", "HorizontalPodAutoscaler")]:
        target = scaler["spec"]["scaleTargetRef"]
        found = sets[target["name"]]
        assert (found["apiVersion"], found["kind"]) == (target["apiVersion"], target["kind"])
        assert "replicas" not in found["spec"], "every apply would undo what the autoscaler did"
