"""Dashboards are what their declarations make, ask for what exists, and answer every question there is."""

import asyncio
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import metrics_document
from infra.grafana.boards import BOARDS, FOLDER, documents
from infra.grafana.panels import UNITS, Board, Panel
from infra.prometheus import rules
from infra.prometheus.queries import Query, problems
from shared.stages import Stage

PROMTOOL = shutil.which("promtool")
RECORDED = {rule["record"]: rule["expr"] for group in rules.made()["recorded.yml"] for rule in group["rules"]}


def panels() -> Iterator[tuple[Board, Panel]]:
    for board in BOARDS:
        yield from ((board, panel) for panel in board.panels)


def as_asked(query: str) -> str:
    return query.replace("$__rate_interval", "5m")


def test_the_files_are_the_ones_the_declarations_make() -> None:
    hint = "write them anew: python -m infra.grafana.boards"
    assert {file.name: file.read_text("utf-8") for file in FOLDER.glob("*.json")} == documents(), hint


def test_every_query_asks_for_metrics_and_labels_that_are_declared() -> None:
    found = [
        f"{board.uid}, {panel.title}: {problem}"
        for board, panel in panels()
        for query, _ in panel.series
        for problem in problems(Query(as_asked(query)), RECORDED)
    ]
    assert not found


def test_legends_name_only_labels_that_are_left() -> None:
    for _, panel in panels():
        for query, legend in panel.series:
            grouped = re.search(r"^\w+ by \(([^)]*)\)|, (?:sum|max) by \(([^)]*)\)", query)
            named = set(re.findall(r"{{(\w+)}}", legend))
            if grouped is not None:
                assert named <= {label.strip() for label in (grouped[1] or grouped[2]).split(",")}, query


def test_every_panel_has_a_question_a_unit_and_a_place_of_its_own() -> None:
    for name, text in documents().items():
        board: dict[str, Any] = json.loads(text)
        placed = [panel for panel in board["panels"] if panel["type"] != "row"]
        assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"]), name
        taken: set[tuple[int, int]] = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken, (name, panel["title"])
            assert max(x for x, _ in cells) < 24, (name, panel["title"])
            taken |= cells
        for panel in placed:
            assert panel["title"].endswith("?"), panel["title"]
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"]) > 0
            assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])


def test_seconds_bytes_and_ratios_are_shown_as_what_they_are() -> None:
    for _, panel in panels():
        for query, _ in panel.series:
            if query.startswith("histogram_quantile("):
                assert panel.unit == "s", panel.title
            elif ":ratio" in query:
                assert panel.unit == "percentunit", panel.title
            elif re.fullmatch(r"(max by \(\w+\)\()?\w+_seconds\)?", query):
                assert panel.unit == "s", panel.title


def test_each_stage_and_each_question_of_the_metrics_has_its_panel() -> None:
    queries = [query for _, panel in panels() for query, _ in panel.series]
    for stage in Stage:
        if stage is not Stage.DETECTED:
            assert any(f'stage="{stage.value}"' in query for query in queries), stage
    assert any("fleetwire_watcher_seen_seconds" in query for query in queries)
    shown = {name for query in queries for name in Query(as_asked(query)).series}
    shown |= {name for record in shown & RECORDED.keys() for name in Query(RECORDED[record]).series}
    known = metrics_document.declared()
    for question, names in metrics_document.QUESTIONS.items():
        families = {family.name for name in names for family in known[name].describe()}
        assert any(re.sub(r"_(total|bucket|count|sum)$", "", name) in families for name in shown), question


def test_grafana_is_told_where_prometheus_and_the_dashboards_are() -> None:
    folder = FOLDER.parent / "provisioning"
    source = yaml.safe_load((folder / "datasources" / "fleetwire.yml").read_text("utf-8"))["datasources"][0]
    config = yaml.safe_load((Path(rules.__file__).parent / "prometheus.yml").read_text("utf-8"))
    assert source["jsonData"]["timeInterval"] == config["global"]["scrape_interval"]
    assert yaml.safe_load((folder / "dashboards" / "fleetwire.yml").read_text("utf-8"))["providers"]


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (apt-get install prometheus)")
async def test_every_query_is_one_that_prometheus_can_read(tmp_path: Path) -> None:
    queries = sorted({as_asked(query) for _, panel in panels() for query, _ in panel.series})
    file = tmp_path / "queries.yml"
    asked = [{"record": f"panel:query:n{number}", "expr": query} for number, query in enumerate(queries)]
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": asked}]}))
    assert PROMTOOL is not None
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, "check", "rules", str(file), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, said.decode()
    assert f"{len(queries)} rules found" in said.decode()
