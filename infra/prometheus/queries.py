"""Whether a query asks for what there is: every metric declared, every label one that the metric has [pure but for the
declarations].

Not a parser of PromQL, which promtool has: it takes a query apart into words and looks at those that name a series or
a label. What it cannot place it reports.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from shared.telemetry import metrics

__all__ = ["Query", "labels_of", "problems"]

# What Prometheus and the scrape configuration add to every series.
TARGET: Final = frozenset({"job", "instance", "machine", "worker", "namespace", "pod"})
_OWN: Final[Mapping[str, frozenset[str]]] = {
    "up": frozenset(),
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "escalation", "slo"}),
    "process_cpu_seconds_total": frozenset(),
    "process_resident_memory_bytes": frozenset(),
    "process_open_fds": frozenset(),
    "process_max_fds": frozenset(),
    "process_start_time_seconds": frozenset(),
}
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_MATCHERS: Final = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)?\s*\{([^}]*)\}")
_GROUPING: Final = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORD: Final = re.compile(r"(?<![\w:.$])[a-zA-Z_:][a-zA-Z0-9_:]*")
_SYNTAX: Final = frozenset({"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "inf", "nan"})


@dataclass(frozen=True)
class Query:
    """A query's text, with `$variables` of a dashboard if it has any."""

    text: str

    @property
    def matchers(self) -> Iterator[tuple[str, list[str]]]:
        """Each series that is asked for with labels, and those labels."""
        for found in _MATCHERS.finditer(_STRING.sub('""', self.text)):
            yield found[1] or "", re.findall(r"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)", found[2])

    @property
    def grouping(self) -> list[str]:
        """All labels that something is grouped or matched by."""
        return [
            label
            for found in _GROUPING.finditer(_STRING.sub('""', self.text))
            for label in re.split(r"[\s,]+", found[1].strip())
            if label
        ]

    @property
    def series(self) -> set[str]:
        """The names of all series that are asked for."""
        bare = _STRING.sub('""', self.text)
        bare = _GROUPING.sub(" ", re.sub(r"\{[^}]*\}", " ", bare))
        bare = re.sub(r"\[[^\]]*\]", " ", bare)
        found = set()
        for word in _WORD.finditer(bare):
            after = bare[word.end() :].lstrip()
            if word[0].lower() not in _SYNTAX and not after.startswith("(") and not re.fullmatch(r"\d*[smhd]", word[0]):
                found.add(word[0])
        return found


def _declared() -> dict[str, frozenset[str]]:
    found = {}
    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            labels = frozenset(metric._labelnames)
            if isinstance(metric, Counter):
                found[f"{family.name}_total"] = labels
            elif isinstance(metric, Gauge):
                found[family.name] = labels
            else:
                found |= {f"{family.name}_count": labels, f"{family.name}_sum": labels}
                found[f"{family.name}_bucket"] = labels | {"le"}
    return found


_DECLARED: Final = _declared() | dict(_OWN)


def labels_of(series: str, recorded: Mapping[str, str]) -> frozenset[str] | None:
    """The labels a series may have, None when there is no such series. `recorded` maps names to their queries."""
    if series in _DECLARED:
        return _DECLARED[series] | TARGET
    if series in recorded:
        inner = Query(recorded[series])
        found = [labels_of(name, recorded) for name in inner.series]
        known = frozenset().union(*(one for one in found if one is not None))
        level = re.findall(r"\bby\s*\(([^)]*)\)", inner.text)
        return frozenset(label.strip() for one in level for label in one.split(",")) & known if level else known
    return None


def problems(query: Query, recorded: Mapping[str, str]) -> list[str]:
    """What is asked for and does not exist."""
    found, known = [], frozenset[str]()
    for series in sorted(query.series):
        labels = labels_of(series, recorded)
        if labels is None:
            found.append(f"no such series: {series}")
        else:
            known |= labels
    for series, labels_asked in query.matchers:
        has = labels_of(series, recorded) or frozenset()
        found += [f"{series} has no label {label}" for label in labels_asked if label not in has]
    found += [f"nothing in it has the label {label}" for label in query.grouping if label not in known]
    return found
