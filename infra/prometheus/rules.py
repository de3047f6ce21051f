"""The rules that Prometheus loads, made from the promises and causes declared beside this.

`python -m infra.prometheus.rules` writes `infra/prometheus/rules/*.yml` (a test compares). `--runbooks` says where the
pages are read that alerts name, by default in this repository. `made(scale=60)` is the same with every duration a
sixtieth, for runs in which alerts must fire in seconds; what is a threshold stays what it is.
"""

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from infra.prometheus.causes import CAUSES, RECORDED, Cause
from infra.prometheus.slos import BURNS, RATE, SLOS, WINDOWS, Burn, Slo

__all__ = ["FOLDER", "PREFIX", "documents", "made", "scaled"]

FOLDER: Final = Path(__file__).parent / "rules"
RUNBOOKS: Final = "docs/runbooks/"
PREFIX: Final = "Fleetwire"
EVERY_S: Final = 60.0

_HEAD: Final = (
    "# Made by `python -m infra.prometheus.rules` from infra/prometheus/slos.py and causes.py: change them there.\n"
)
_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION: Final = re.compile(r"(?<=\[)(\d+)([smhd])(?=\])|(?<=offset )(\d+)([smhd])")

Rule = dict[str, Any]


def made(*, scale: float = 1.0, runbooks: str = RUNBOOKS) -> dict[str, list[Rule]]:
    """The groups of each file, by the file's name."""
    every = _span(EVERY_S / scale)

    def group(name: str, rules: Iterator[Rule]) -> Rule:
        return {"name": name, "interval": every, "rules": [_timed(rule, scale) for rule in rules]}

    return {
        "recorded.yml": [
            group("fleetwire-recorded", _recorded()),
            *(group(f"fleetwire-{slo.page}", _windows(slo, scale)) for slo in SLOS),
        ],
        "alerts.yml": [
            group("fleetwire-promises", (_burning(slo, burn, runbooks, scale) for slo in SLOS for burn in BURNS)),
            group("fleetwire-causes", (_cause(cause, runbooks) for cause in CAUSES)),
        ],
    }


def documents(*, scale: float = 1.0, runbooks: str = RUNBOOKS) -> dict[str, str]:
    """The files as text, by name."""
    return {
        name: _HEAD + yaml.safe_dump({"groups": groups}, sort_keys=False, width=118, allow_unicode=True)
        for name, groups in made(scale=scale, runbooks=runbooks).items()
    }


def scaled(expr: str, scale: float) -> str:
    """The expression with its windows and offsets divided."""
    return _DURATION.sub(lambda found: _span(_seconds(found[0]) / scale), expr) if scale != 1 else expr


def _recorded() -> Iterator[Rule]:
    for name, expr in RECORDED:
        yield {"record": name, "expr": expr}


def _windows(slo: Slo, scale: float) -> Iterator[Rule]:
    bad, total = slo.series("bad", f"rate{RATE}"), slo.series("events", f"rate{RATE}")
    yield {"record": total, "expr": slo.total}
    yield {"record": bad, "expr": slo.bad}
    yield {"record": slo.series("bad", f"ratio_rate{RATE}"), "expr": f"{bad} / ({total} > 0)"}
    for window in WINDOWS:
        yield {
            "record": slo.series("bad", f"ratio_rate{window}"),
            "expr": f"sum_over_time({bad}[{window}]) / (sum_over_time({total}[{window}]) > 0)",
        }
    for window in sorted({burn.long for burn in BURNS}, key=_seconds):
        # Each recorded rate stands for the time until the next.
        yield {
            "record": slo.series("bad", f"increase{window}"),
            "expr": f"sum_over_time({bad}[{window}]) * {EVERY_S / scale:g}",
        }


def _burning(slo: Slo, burn: Burn, runbooks: str, scale: float) -> Rule:
    bad_min = slo.bad_min / scale if slo.is_time else slo.bad_min
    limit = f"{burn.factor:g} * {slo.budget:g}"
    where = "".join(f" {{{{ $labels.{label} }}}}" for label in slo.level)
    return {
        "alert": f"{PREFIX}{slo.name}{burn.word}",
        "expr": (
            f"{slo.series('bad', f'ratio_rate{burn.long}')} > {limit}\n"
            f"and {slo.series('bad', f'ratio_rate{burn.short}')} > {limit}\n"
            f"and {slo.series('bad', f'increase{burn.long}')} >= {bad_min:g}\n"
        ),
        "labels": _labels(burn.severity, burn.escalation, slo=slo.page),
        "annotations": {
            "summary": (
                f"{slo.name}{':' + where if where else ''}: {{{{ $value | humanizePercentage }}}} bad over "
                f"{burn.long}, {burn.factor:g} times the budget or more"
            ),
            "description": f"It is promised that {slo.promise}.",
            "runbook_url": _runbook(runbooks, slo.page, f"{PREFIX}{slo.name}{burn.word}"),
        },
    }


def _cause(cause: Cause, runbooks: str) -> Rule:
    name = f"{PREFIX}{cause.name}"
    rule: Rule = {"alert": name, "expr": cause.expr}
    if _seconds(cause.lasts):
        rule["for"] = cause.lasts
    return rule | {
        "labels": _labels(cause.severity, cause.escalation),
        "annotations": {"summary": cause.summary, "runbook_url": _runbook(runbooks, cause.page, name)},
    }


def _labels(severity: str, escalation: str, **more: str) -> dict[str, str]:
    return {"severity": severity, "escalation": escalation, **more}


def _runbook(runbooks: str, page: str, alert: str) -> str:
    return f"{runbooks}{page}.md#{alert.lower()}"


def _timed(rule: Rule, scale: float) -> Rule:
    if "for" in rule:
        rule["for"] = _span(_seconds(rule["for"]) / scale)
    return rule | {"expr": scaled(rule["expr"], scale)}


def _seconds(duration: str) -> float:
    return int(duration[:-1]) * _UNITS[duration[-1]]


def _span(seconds: float) -> str:
    if seconds < 1 or seconds % 1:
        return f"{max(1, round(seconds * 1000))}ms"
    for unit, size in reversed(_UNITS.items()):
        if seconds % size == 0:
            return f"{seconds / size:.0f}{unit}"
    raise AssertionError("whole seconds have the unit of seconds")


def main() -> None:
    """Write the files."""
    parser = argparse.ArgumentParser(prog="python -m infra.prometheus.rules", description=main.__doc__)
    parser.add_argument("--runbooks", default=RUNBOOKS, help="what the addresses of runbooks begin with")
    parser.add_argument("--to", type=Path, default=FOLDER, help="the folder")
    options = parser.parse_args()
    options.to.mkdir(parents=True, exist_ok=True)
    for name, text in documents(runbooks=options.runbooks).items():
        (options.to / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
