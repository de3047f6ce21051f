"""The numbers that autoscalers are given: about metrics that exist, and right in every case by promtool."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from infra.prometheus import rules
from shared.telemetry.metrics import REGISTRY
from tests.infra.k8s.rendering import rendered

FOLDER = Path(rules.__file__).parent
RULES = yaml.safe_load((FOLDER / "rules" / "scaling.yml").read_text("utf-8"))["groups"][0]["rules"]
PROMTOOL = shutil.which("promtool")
# Of the cluster itself (cAdvisor, kube-state-metrics) and of Prometheus.
OTHERS = {
    "up",
    "container_cpu_usage_seconds_total",
    "container_memory_working_set_bytes",
    "kube_statefulset_replicas",
}


def test_they_are_about_metrics_that_exist() -> None:
    ours = {f"{metric.name}_total" if metric.type == "counter" else metric.name for metric in REGISTRY.collect()}
    recorded = {rule["record"] for rule in RULES}
    for rule in RULES:
        bare = re.sub(r'\{[^}]*\}|"[^"]*"', "", rule["expr"])
        for name in re.findall(r"\b(?:fleet:)?[a-z]+_[a-z0-9_:]+\b|\bup\b", bare):
            assert name in ours | recorded | OTHERS or name in ("label_replace", "clamp_min"), name


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")
def test_promtool_takes_them_and_finds_them_right() -> None:
    assert PROMTOOL is not None
    command = [PROMTOOL, "check", "rules", "--lint=all", "--lint-fatal", str(FOLDER / "rules" / "scaling.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    # The cases themselves are run with all others, by test_rules.
    assert (FOLDER / "tests" / "scaling.yml").exists()


def test_what_an_autoscaler_asks_for_by_name_is_recorded() -> None:
    recorded = {rule["record"] for rule in RULES}
    asked = {
        trigger["metadata"]["query"]
        for one in rendered("overlays/production")
        if one["kind"] == "ScaledObject"
        for trigger in one["spec"]["triggers"]
        if trigger["metadata"].get("query", "").startswith("fleet:")
    }
    assert asked
    assert asked <= recorded
