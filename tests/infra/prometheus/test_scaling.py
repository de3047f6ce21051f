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


def _hubs(connections: list[str], up: list[str]) -> list[dict[str, str]]:
    return [
        {"series": f'{name}{{job="fleetwire-hub",pod="hub-{n}"}}', "values": values}
        for name, all_of in (("fleetwire_hub_connections", connections), ("up", up))
        for n, values in enumerate(all_of)
        if values
    ]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")
@pytest.mark.parametrize(
    ("connections", "up", "value"),
    [
        (["300x40", "340x40", "320x40"], ["1x40"] * 3, 360.0 * 3),  # three, as there are
        (["400x40", "405x40", "390x40"], ["1x40"] * 3, 1195.0),  # above the tolerance
        (["420x40", "340x40", "330x40"], ["1x40"] * 3, 1.11 * 360 * 3),  # one has too many
        (["420x40", "340x40", "330x40"], ["1x40", "1x40", "_x38 1x2"], 360.0 * 3),  # and the third has just come
        (["290x40", "200x40", "200x40"], ["1x40"] * 3, 360.0 * 3),  # two would be too full
        (["240x40", "220x40", "200x40"], ["1x40"] * 3, 660.0),  # the sum: two would do
        (["200x40", "200x40", ""], ["1x40", "1x40", "0x40"], None),  # one does not tell
        (["600x40", "600x40", ""], ["1x40", "1x40", "0x40"], 1200.0),  # the others are too many already
        (["", "", ""], ["0x40"] * 3, None),
        (["", "", ""], ["", "", ""], None),
    ],
)
def test_the_query_of_the_hubs_says_what_is_wanted_in_every_case(
    connections: list[str], up: list[str], value: float | None, tmp_path: Path
) -> None:
    assert PROMTOOL is not None
    [scaled] = [
        one
        for one in rendered("example")
        if one["kind"] == "ScaledObject" and one["metadata"]["name"] == "fleetwire-hub"
    ]
    rule = {"record": "wanted", "expr": scaled["spec"]["triggers"][0]["metadata"]["query"]}
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "hubs", "rules": [rule]}]}))
    expected = [] if value is None else [{"labels": "wanted", "value": value}]
    case = {
        "interval": "5s",
        "input_series": _hubs(connections, up),
        "promql_expr_test": [{"expr": "wanted", "eval_time": "195s", "exp_samples": expected}],
    }
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "15s", "tests": [case]}
    (tmp_path / "case.yml").write_text(yaml.safe_dump(document))
    command = [PROMTOOL, "test", "rules", str(tmp_path / "case.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
