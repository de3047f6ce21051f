"""The rules are what the declarations make, are about metrics that exist, and say the right thing in every case."""

import asyncio
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.onebox.settings import UpSettings
from infra.prometheus import rules
from infra.prometheus.causes import CAUSES
from infra.prometheus.queries import Query, problems
from infra.prometheus.slos import BURNS, SLOS, WINDOWS
from shared.settings import load

FOLDER = Path(rules.__file__).parent
PROMTOOL = shutil.which("promtool")
CASES = sorted((FOLDER / "tests").glob("*.yml"))
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")


def all_rules(kind: str) -> Iterator[dict[str, Any]]:
    for groups in rules.made().values():
        for group in groups:
            yield from (rule for rule in group["rules"] if kind in rule)


async def promtool(*arguments: str) -> tuple[int | None, str]:
    assert PROMTOOL is not None
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, said.decode()


def test_the_files_are_the_ones_the_declarations_make() -> None:
    hint = "write them anew: python -m infra.prometheus.rules"
    for name, text in rules.documents().items():
        assert (rules.FOLDER / name).read_text("utf-8") == text, hint


def test_every_rule_asks_for_metrics_and_labels_that_are_declared() -> None:
    recorded = {rule["record"]: rule["expr"] for rule in all_rules("record")}
    found = [
        f"{rule.get('record') or rule.get('alert')}: {problem}"
        for kind in ("record", "alert")
        for rule in all_rules(kind)
        for problem in problems(Query(rule["expr"]), recorded)
    ]
    assert not found


def test_names_of_recorded_series_say_level_metric_and_operation() -> None:
    for rule in all_rules("record"):
        assert re.fullmatch(r"[a-z_]+:fleetwire_[a-z_]+:[a-z0-9_]+", rule["record"])


def test_every_alert_has_a_severity_an_escalation_a_sentence_and_a_page() -> None:
    alerts = list(all_rules("alert"))
    assert len(alerts) == len({rule["alert"] for rule in alerts}) == len(SLOS) * len(BURNS) + len(CAUSES)
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["labels"]["escalation"] in ("immediate", "within_30m", "next_day")
        assert (rule["labels"]["severity"] == "page") == (rule["labels"]["escalation"] != "next_day")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["runbook_url"].startswith("docs/runbooks/")


def test_promises_are_watched_over_two_windows_and_never_for_few_events() -> None:
    for slo in SLOS:
        assert slo.bad_min >= 3
        for burn in BURNS:
            assert {burn.long, burn.short} <= {"5m", *WINDOWS}
            # Where all is bad the alert must be possible.
            assert burn.factor * slo.budget < 1


def test_all_durations_shrink_together() -> None:
    quick = rules.made(scale=60)
    text = str(quick)
    assert "[1h]" not in text
    assert "offset 10m" not in text
    assert "offset 10s" in text
    assert "sum_over_time(fleet:fleetwire_delivery_bad:rate5m[1m]) * 1" in text
    assert {group["interval"] for groups in quick.values() for group in groups} == {"1s"}
    assert rules.scaled("rate(x[5m]) + y[30m:1m] offset 10m", 600) == "rate(x[500ms]) + y[30m:1m] offset 1s"


@needs_promtool
async def test_promtool_finds_nothing_wrong_with_the_rules() -> None:
    files = [str(rules.FOLDER / name) for name in rules.made()]
    status, said = await promtool("check", "rules", "--lint=all", "--lint-fatal", *files)
    assert status == 0, said


@needs_promtool
async def test_the_rules_say_the_right_thing_in_every_case() -> None:
    assert {case.stem for case in CASES} >= {
        "fast_burn",
        "slow_burn",
        "no_traffic",
        "lost_target",
        "restarts",
        "causes",
    }
    status, said = await promtool("test", "rules", *map(str, CASES))
    assert status == 0, said


@needs_promtool
async def test_the_configuration_is_one_that_prometheus_takes(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("0123456789abcdef")
    shutil.copytree(rules.FOLDER, tmp_path / "rules")
    text = (FOLDER / "prometheus.yml").read_text("utf-8").replace("/run/secrets/operations-token", str(token))
    (tmp_path / "prometheus.yml").write_text(text)
    for file in (tmp_path / "prometheus.yml", FOLDER / "onebox.yml"):
        status, said = await promtool("check", "config", str(file))
        assert status == 0, said


def test_every_process_of_the_containers_is_asked_where_it_answers() -> None:
    compose = yaml.safe_load((FOLDER.parents[1] / "docker-compose.yml").read_text("utf-8"))["services"]
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    asked = {
        target: job["job_name"]
        for job in config["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    }
    listening = {
        f"{name}:{port}": f"fleetwire-{service['command'][0]}"
        for name, service in compose.items()
        if (port := (service.get("environment") or {}).get("FLEETWIRE_OPS_PORT")) is not None
    }
    assert {target: job for target, job in asked.items() if job != "haproxy"} == listening
    for job in config["scrape_configs"]:
        assert job["job_name"] == "haproxy" or job["authorization"]["credentials_file"]
        assert all(one["labels"]["machine"] for one in job["static_configs"])


def test_what_runs_beside_make_up_asks_the_ports_that_it_takes() -> None:
    config = yaml.safe_load((FOLDER / "onebox.yml").read_text("utf-8"))
    asked = {
        int(target.rpartition(":")[2]): job["job_name"].removeprefix("fleetwire-")
        for job in config["scrape_configs"]
        for one in job["static_configs"]
        for target in one["targets"]
    }
    usual = load(UpSettings, {})
    ports = {"api": usual.api_ops_port, "hub": usual.hub_ops_port, "watcher": usual.watcher_ops_port}
    ports |= {"worker": usual.worker_ops_port, "files": usual.files_ops_port}
    assert asked == {port: job for job, port in ports.items()} | {usual.hub_ops_port + 1: "hub"}


def test_every_alert_has_a_way_to_somebody_and_what_silences_it_exists() -> None:
    config = yaml.safe_load((FOLDER / "alertmanager.yml").read_text("utf-8"))
    ways = {matcher for route in config["route"]["routes"] for matcher in route["matchers"]}
    assert ways == {f"escalation = {rule['labels']['escalation']}" for rule in all_rules("alert")}
    named = {route["receiver"] for route in [config["route"], *config["route"]["routes"]]}
    assert named == {receiver["name"] for receiver in config["receivers"]}
    alerts = {rule["alert"] for rule in all_rules("alert")}
    labels = {label for slo in SLOS for label in slo.level} | {"slo", "job"}
    for rule in config["inhibit_rules"]:
        matchers = [*rule["source_matchers"], *rule["target_matchers"]]
        assert {one.split(" = ")[1] for one in matchers if one.startswith("alertname")} <= alerts
        assert set(rule.get("equal", ())) <= labels
