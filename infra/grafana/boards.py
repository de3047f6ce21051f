"""The dashboards: one panel for each stage of an event, one for each question that one asks of hubs, and the rest in
the order in which one looks.

`python -m infra.grafana.boards` writes `infra/grafana/dashboards/*.json` (a test compares, and that every metric, label
and unit exists).
"""

import json
from pathlib import Path
from typing import Final

from infra.grafana.hub_board import HUBS
from infra.grafana.panels import document
from infra.grafana.path_boards import PATH, PROMISES
from infra.grafana.work_boards import API, MACHINES, WORK

__all__ = ["BOARDS", "FOLDER", "documents"]

FOLDER: Final = Path(__file__).parent / "dashboards"
BOARDS: Final = (PATH, HUBS, PROMISES, API, WORK, MACHINES)


def documents() -> dict[str, str]:
    """The files as text, by name."""
    return {f"{board.uid}.json": json.dumps(document(board), indent=1) + "\n" for board in BOARDS}


if __name__ == "__main__":
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
