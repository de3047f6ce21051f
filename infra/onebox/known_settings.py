"""Variables that are named like a setting and are none: most likely a misspelt one, which would have no effect."""

import importlib
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, Final

from infra.command_settings import CommandSettings
from infra.onebox.scale_settings import ScaleSettings
from infra.onebox.settings import UpSettings
from infra.onebox.simulated import SimulatedSettings
from shared.lifecycle import PARENT_PID_VARIABLE

__all__ = ["known_names", "settings_class", "unknown_settings"]

_PREFIX: Final = "FLEETWIRE_"
_TESTS: Final = "FLEETWIRE_TEST_"
_PACKAGES: Final = ("api", "files", "hub", "watcher", "worker")


def unknown_settings(environ: Mapping[str, str]) -> list[str]:
    """A line for each variable that nothing reads, with the setting that it resembles."""
    known = known_names()
    ends = {one.removeprefix(_PREFIX) for one in known}
    lines = []
    for name in sorted(environ):
        if not name.startswith(_PREFIX) or name.startswith(_TESTS) or name in known:
            continue
        close = get_close_matches(name.removeprefix(_PREFIX), sorted(ends), n=1, cutoff=0.7)
        lines.append(
            f"{name} has no effect: there is no such setting{f'; {_PREFIX}{close[0]} is one' if close else ''}"
        )
    return lines


def known_names() -> frozenset[str]:
    """The variables that some process or command reads."""
    ours = (UpSettings, ScaleSettings, CommandSettings, SimulatedSettings)
    classes = [*ours, *(settings_class(package) for package in _PACKAGES)]
    names = {item.metadata["env"] for one in classes for item in fields(one) if "env" in item.metadata}
    return frozenset({*names, PARENT_PID_VARIABLE})


def settings_class(package: str) -> type[Any]:
    """The settings of one of our processes."""
    module = importlib.import_module(f"{package}.settings")
    found: type[Any] = getattr(module, "Settings", None) or getattr(module, f"{package.title()}Settings")
    return found
