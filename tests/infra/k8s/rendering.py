"""What a cluster would be given, built by kubectl itself, and the schemas by which it would judge it.

Kubernetes' kinds are judged by the schemas that kubernetes-validate carries, with no unknown field allowed; KEDA's by
the types that cloudcoil-models-keda carries, which are made from KEDA's own resource definitions.
"""

import json
import subprocess
import sys
from functools import cache
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

K8S = Path(__file__).parents[3] / "infra" / "k8s"
# The oldest that has all that is used (a sleep before the end of a container), and the newest.
VERSIONS = ("1.30", "1.37")
# Where the schemas think that they are.
_BASE = "file:///api/"
KUBECTL = Path(sys.executable).parent / "kubectl"

Manifest = dict[str, Any]


def _built(folder: str) -> str:
    if not KUBECTL.exists():
        pytest.skip("there is no kubectl for this machine")
    done = subprocess.run(
        [str(KUBECTL), "kustomize", str(K8S / folder)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    # What kustomize calls deprecated will stop working.
    assert not done.stderr, done.stderr
    return done.stdout


@cache
def rendered(folder: str) -> list[Manifest]:
    """The manifests of one kustomization, as `kubectl apply -k` would send them. Not to be changed."""
    return [document for document in yaml.load_all(_built(folder), yaml.CSafeLoader) if document]


def kustomizations() -> dict[str, Manifest]:
    """Each kustomization and component by its folder."""
    return {
        str(file.parent.relative_to(K8S)): yaml.safe_load(file.read_text())
        for file in sorted(K8S.rglob("kustomization.yaml"))
    }


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    """Those of some kinds by their names."""
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] in kinds}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The templates of all pods, by kind and name of what makes them."""
    found = {}
    for one in manifests:
        if one["kind"] in ("Deployment", "StatefulSet", "Job"):
            found[f"{one['kind']}/{one['metadata']['name']}"] = one["spec"]["template"]
        if one["kind"] == "CronJob":
            found[f"CronJob/{one['metadata']['name']}"] = one["spec"]["jobTemplate"]["spec"]["template"]
    return found


def problems(manifest: Manifest, version: str) -> list[str]:
    """What a schema has against a manifest, and where."""
    if manifest["apiVersion"].startswith("keda.sh/"):
        validator = _keda(manifest["apiVersion"], manifest["kind"])
    else:
        validator = _kubernetes(manifest["apiVersion"], manifest["kind"], version)
    return [f"{'.'.join(map(str, error.instance_path))}: {error.message}" for error in validator.iter_errors(manifest)]


@cache
def _kubernetes(api_version: str, kind: str, version: str) -> Any:
    schemas = Path(str(files("kubernetes_validate"))) / "kubernetes-json-schema"
    [folder] = schemas.glob(f"v{version}.*-local-strict")
    group, _, of_group = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.split(".")[0], of_group) if part)
    schema = json.loads((folder / f"{name}.json").read_text())
    return jsonschema_rs.Draft202012Validator({**schema, "$id": f"{_BASE}{name}.json"}, registry=_definitions(folder))


@cache
def _definitions(folder: Path) -> Any:
    content = json.loads((folder / "_definitions.json").read_text())
    return jsonschema_rs.Registry([(f"{_BASE}_definitions.json", content)])


@cache
def _keda(version: str, kind: str) -> Any:
    module = import_module(f"cloudcoil.models.keda.{version.removeprefix('keda.sh/')}")
    schema: Manifest = getattr(module, kind).model_json_schema(by_alias=True)
    _close(schema)
    return jsonschema_rs.Draft202012Validator(schema)


def _close(schema: Any) -> None:
    """As the cluster prunes or refuses them, fields that are not declared are errors."""
    if isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for value in schema.values():
            _close(value)
    elif isinstance(schema, list):
        for value in schema:
            _close(value)
