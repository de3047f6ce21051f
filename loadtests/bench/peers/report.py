"""The comparison on paper: tables, Markdown and a chart, all made from the figures as they are saved. Pure.

Ratios are to the bare relay of the same run, since two runs on two days compare nothing.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, Final, TypeAlias

__all__ = [
    "COST_COLUMNS",
    "SOCKET_COLUMNS",
    "chart",
    "cost_rows",
    "load_names",
    "markdown",
    "put_between",
    "socket_rows",
]

Figures: TypeAlias = Mapping[str, Any]

_BEGIN: Final = "<!-- measured: begin -->"
_END: Final = "<!-- measured: end -->"
_COLOURS: Final = {"relay": "#9aa5b1", "hub": "#1f6feb"}
_PEER_COLOUR: Final = "#d29922"
_WIDTH: Final = 760
_LABELS: Final = 150
_VALUES: Final = 150
_BAR: Final = 16
_STEP: Final = 22
_HEAD: Final = 30


def load_names(figures: Sequence[Figures]) -> list[str]:
    """The points, in the order in which they were measured."""
    names: dict[str, None] = {}
    for server in figures:
        names |= dict.fromkeys([*server["points"], *server["skipped"]])
    order = {name: number for number, name in enumerate(figures[0]["points"] if figures else [])}
    return sorted(names, key=lambda name: order.get(name, len(order)))


COST_COLUMNS: Final = ("load", "server", "µs an event", "× relay", "hub ÷ it", "p50 ms", "p99 ms", "lost")
SOCKET_COLUMNS: Final = ("server", "KB an idle device", "connects/s")


def cost_rows(figures: Sequence[Figures]) -> list[list[str]]:
    """For each load, a row for each server."""
    found = []
    for name in load_names(figures):
        points = {server["server"]: server["points"].get(name) for server in figures if not server["missing"]}
        for server, point in points.items():
            cells = _cells(point, points.get("relay"), points.get("hub"))
            found.append([name, server, *cells])
    return found


def _cells(point: Figures | None, floor: Figures | None, hub: Figures | None) -> list[str]:
    if point is None:
        return ["too much for it", "", "", "", "", ""]
    cost, latency = point["us_per_event"], point["latency"]
    return [
        f"{cost:.1f}",
        _ratio(cost, floor["us_per_event"] if floor else None),
        _ratio(hub["us_per_event"] if hub else 0.0, cost),
        _ms(latency.get("p50_ms")),
        _ms(latency.get("p99_ms")),
        str(point["lost"]),
    ]


def _ratio(one: float, other: float | None) -> str:
    return f"{one / other:.2f}" if one and other else ""


def _ms(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def socket_rows(figures: Sequence[Figures]) -> list[list[str]]:
    """What a socket costs, a row for each server, or why there is nothing to say of it."""
    return [
        [server["server"], f"not measured: {server['missing'].splitlines()[0]}", ""]
        if server["missing"]
        else [server["server"], f"{server['resident_kb_per_device']:.0f}", f"{server['connects_per_s']:,}"]
        for server in figures
    ]


def markdown(figures: Sequence[Figures]) -> str:
    """Both tables in Markdown."""
    both = (COST_COLUMNS, cost_rows(figures)), (SOCKET_COLUMNS, socket_rows(figures))
    return "\n".join(_markdown_table(headings, rows) for headings, rows in both)


def _markdown_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rules = ["---" if heading in ("load", "server") else "--:" for heading in headings]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (headings, rules, *rows))


def put_between(text: str, new: str, marks: tuple[str, str] = (_BEGIN, _END)) -> str:
    """Replace what stands between the marks. Raises ValueError when a mark is not there once."""
    begin, end = marks
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the text must hold {begin} and {end} once")
    before, _, rest = text.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n\n{new.strip()}\n\n{end}{after}"


def chart(figures: Sequence[Figures]) -> str:
    """Bars in SVG: the servers' CPU per delivered event, a group for each load, one scale for all."""
    measured = [server for server in figures if not server["missing"]]
    longest = max((point["us_per_event"] for server in measured for point in server["points"].values()), default=1.0)
    parts: list[str] = []
    top = 8
    for name in load_names(measured):
        parts.append(f'<text x="8" y="{top + 18}" font-weight="bold">{escape(name)}</text>')
        top += _HEAD
        floor = next((s["points"].get(name) for s in measured if s["server"] == "relay"), None)
        for server in measured:
            parts += _bar(server["server"], server["points"].get(name), floor, longest, top)
            top += _STEP
        top += 10
    devices = measured[0]["devices"] if measured else 0
    title = f"Server CPU per delivered event in µs, {devices:,} devices (× the bare relay)"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top + 34}" font-family="sans-serif" '
        f'font-size="13" fill="#24292f"><title>{title}</title>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}'
        f'<text x="8" y="{top + 20}" fill="#57606a">{title}</text></svg>\n'
    )


def _bar(server: str, point: Figures | None, floor: Figures | None, longest: float, top: int) -> list[str]:
    label = f'<text x="{_LABELS - 8}" y="{top + 13}" text-anchor="end">{escape(server)}</text>'
    if point is None:
        return [label, f'<text x="{_LABELS}" y="{top + 13}" fill="#57606a">too much for one core</text>']
    cost = point["us_per_event"]
    width = max(1.0, cost / longest * (_WIDTH - _LABELS - _VALUES))
    ratio = f" (× {cost / floor['us_per_event']:.1f})" if floor and floor["us_per_event"] else ""
    colour = _COLOURS.get(server, _PEER_COLOUR)
    return [
        label,
        f'<rect x="{_LABELS}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{colour}"/>',
        f'<text x="{_LABELS + width + 6:.1f}" y="{top + 13}">{cost:.1f}{ratio}</text>',
    ]
