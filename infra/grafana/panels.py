"""A panel as it is declared, and as Grafana wants it [pure].

Every panel says its question in its title and its unit, so that no number stands alone; where there is a promise or a
bound, the panel shows it as a line.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["UNITS", "Board", "Panel", "document", "rate_of", "slowest"]

# Grafana's names of the units that are used here.
UNITS: Final = frozenset(
    {"s", "short", "percentunit", "bytes", "Bps", "cps", "reqps", "ops", "iops", "eps", "cpm", "bool", "none"}
)
_WIDE: Final = 24
_HEIGHT: Final = 8
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
RATE: Final = "$__rate_interval"


@dataclass(frozen=True, kw_only=True, slots=True)
class Panel:
    """`series` are queries with what the legend calls them. `line` is a bound to draw; `width` of 24."""

    title: str
    series: Sequence[tuple[str, str]]
    unit: str
    says: str = ""
    line: float | None = None
    width: int = 12
    kind: str = "timeseries"
    stacked: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Board:
    """A dashboard: rows of panels by their headings."""

    uid: str
    title: str
    says: str
    rows: Sequence[tuple[str, Sequence[Panel]]]

    @property
    def panels(self) -> Iterator[Panel]:
        """All panels."""
        for _, panels in self.rows:
            yield from panels


def slowest(histogram: str, by: str = "", where: str = "") -> list[tuple[str, str]]:
    """Median, 95th and 99th percentile of a histogram, for each value of the label `by` if there is one."""
    groups, name = (f"{by}, le", f"{{{{{by}}}}} ") if by else ("le", "")
    chosen = f"{{{where}}}" if where else ""
    return [
        (f"histogram_quantile({part}, sum by ({groups})(rate({histogram}_bucket{chosen}[{RATE}])))", f"{name}{word}")
        for part, word in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    ]


def rate_of(counter: str, by: str = "", where: str = "") -> tuple[str, str]:
    """How often something is counted, for each value of the labels `by`."""
    chosen = f"{{{where}}}" if where else ""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(",")) if by else "all"
    return f"sum{f' by ({by})' if by else ''}(rate({counter}{chosen}[{RATE}]))", legend


def document(board: Board) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    return {
        "uid": board.uid,
        "title": board.title,
        "description": board.says,
        "tags": ["fleetwire"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "utc",
        "templating": {
            "list": [
                {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
            ]
        },
        "links": [
            {"title": "Fleetwire", "type": "dashboards", "tags": ["fleetwire"], "asDropdown": True, "keepTime": True}
        ],
        "annotations": {
            "list": [
                {
                    "name": "Alerts that wake somebody",
                    "datasource": _DATASOURCE,
                    "enable": True,
                    "expr": 'ALERTS{alertstate="firing", severity="page"}',
                    "titleFormat": "{{alertname}}",
                    "iconColor": "red",
                }
            ]
        },
        "panels": list(_placed(board)),
    }


def _placed(board: Board) -> Iterator[dict[str, Any]]:
    number, top = 1, 0
    for heading, panels in board.rows:
        yield {
            "id": number,
            "type": "row",
            "title": heading,
            "collapsed": False,
            "gridPos": {"h": 1, "w": _WIDE, "x": 0, "y": top},
            "panels": [],
        }
        number, top, left = number + 1, top + 1, 0
        for panel in panels:
            if left + panel.width > _WIDE:
                left, top = 0, top + _HEIGHT
            yield _panel(panel, number, {"h": _HEIGHT, "w": panel.width, "x": left, "y": top})
            number, left = number + 1, left + panel.width
        top += _HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    custom: dict[str, Any] = {"fillOpacity": 10, "showPoints": "never", "spanNulls": False}
    if panel.line is not None:
        steps.append({"color": "red", "value": panel.line})
        custom["thresholdsStyle"] = {"mode": "line"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    options: dict[str, Any] = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    if panel.kind == "stat":
        custom = {}
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "targets": [
            {
                "refId": chr(ord("A") + at),
                "datasource": _DATASOURCE,
                "expr": expr,
                "legendFormat": legend,
                "editorMode": "code",
                "range": True,
            }
            for at, (expr, legend) in enumerate(panel.series)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0,
                "custom": custom,
                "thresholds": {"mode": "absolute", "steps": steps},
            },
            "overrides": [],
        },
        "options": options,
    }
