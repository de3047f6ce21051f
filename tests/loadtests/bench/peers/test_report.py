"""The comparison on paper."""

from typing import Any
from xml.etree import ElementTree as ET

import pytest

from loadtests.bench.peers.report import chart, cost_rows, load_names, markdown, put_between, socket_rows


def point(us: float, lost: int = 0) -> dict[str, Any]:
    return {"us_per_event": us, "lost": lost, "latency": {"p50_ms": 0.5, "p99_ms": 1234.4}}


def server(name: str, **points: dict[str, Any]) -> dict[str, Any]:
    return {
        "server": name,
        "devices": 500,
        "resident_kb_per_device": 12.4,
        "connects_per_s": 3000,
        "points": points,
        "skipped": {},
        "missing": None,
    }


FIGURES = [
    server("relay", slow=point(10.0), fast=point(5.0)),
    server("hub", slow=point(15.0), fast=point(8.0, lost=2)),
    server("peer", slow=point(60.0)) | {"skipped": {"fast": "would need more than 2.0 cores"}},
    server("absent") | {"missing": "node and npm are not on this machine\nsecond line"},
]


def test_each_server_stands_beside_the_relay_and_the_hub_beside_it() -> None:
    assert cost_rows(FIGURES) == [
        ["slow", "relay", "10.0", "1.00", "1.50", "0.50", "1,234", "0"],
        ["slow", "hub", "15.0", "1.50", "1.00", "0.50", "1,234", "0"],
        ["slow", "peer", "60.0", "6.00", "0.25", "0.50", "1,234", "0"],
        ["fast", "relay", "5.0", "1.00", "1.60", "0.50", "1,234", "0"],
        ["fast", "hub", "8.0", "1.60", "1.00", "0.50", "1,234", "2"],
        ["fast", "peer", "too much for it", "", "", "", "", ""],
    ]


def test_a_server_that_could_not_be_measured_says_why() -> None:
    assert socket_rows(FIGURES)[0] == ["relay", "12", "3,000"]
    assert socket_rows(FIGURES)[-1] == ["absent", "not measured: node and npm are not on this machine", ""]


def test_without_the_relay_there_are_no_ratios_to_it() -> None:
    assert cost_rows(FIGURES[1:2])[0][3:5] == ["", "1.00"]


def test_loads_keep_the_order_in_which_they_were_measured() -> None:
    assert load_names(FIGURES) == ["slow", "fast"]


def test_every_row_of_the_markdown_has_as_many_cells() -> None:
    for table in markdown(FIGURES).strip().split("\n\n"):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_the_chart_is_svg_with_a_bar_for_each_figure() -> None:
    tree = ET.fromstring(chart(FIGURES))
    bars = [one for one in tree.iter("{http://www.w3.org/2000/svg}rect") if one.get("height") == "16"]
    widths = [float(bar.get("width", "0")) for bar in bars]
    assert len(widths) == 5
    assert widths[2] == max(widths) == pytest.approx(6 * widths[0], rel=0.01)


def test_the_figures_replace_those_of_the_run_before() -> None:
    page = "before\n<!-- measured: begin -->\nold\n<!-- measured: end -->\nafter\n"
    once = put_between(page, "new\n")
    assert "old" not in once
    assert once == "before\n<!-- measured: begin -->\n\nnew\n\n<!-- measured: end -->\nafter\n"
    assert put_between(once, "new\n") == once
    with pytest.raises(ValueError, match="once"):
        put_between("no marks", "new")
