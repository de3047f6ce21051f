"""How to name a command to a person: as it can be typed where this process was started."""

import sys
from pathlib import Path
from typing import Final

__all__ = ["shown", "shown_path", "starting"]

_PROJECT: Final = Path(__file__).parents[1]


def shown(arguments: str) -> str:
    """`.venv/bin/fleetwire doctor`, with the path as it is from here."""
    return f"{shown_path(Path(sys.executable).with_name('fleetwire'))} {arguments}"


def starting() -> str:
    """What starts everything: `make up` in the project's own folder."""
    return "make up" if Path.cwd() == _PROJECT and (_PROJECT / "Makefile").is_file() else shown("up")


def shown_path(path: Path) -> str:
    """Relative to the current folder if it lies in it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
