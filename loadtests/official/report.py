"""How a check of an official client reports: one line of JSON each. Runs where nothing of ours is installed."""

import json
import sys
import traceback
from collections.abc import Callable
from typing import Any

__all__ = ["given", "run"]


def given() -> dict[str, Any]:
    """What the run is told: addresses and keys."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    return told


def run(checks: "list[tuple[str, Callable[[], object]]]") -> None:
    """Each in turn; a later one may need an earlier one. Ends with how many failed."""
    failed = 0
    for name, check in checks:
        line: dict[str, object] = {"check": name, "ok": True}
        try:
            check()
        except Exception as error:  # noqa: BLE001 - whatever a library raises is the finding
            failed += 1
            line |= {"ok": False, "error": f"{type(error).__name__}: {error}"[:500]}
            traceback.print_exc()
        print(json.dumps(line), flush=True)
    sys.exit(min(failed, 100))
