"""What the child that does small jobs for an API is told by its environment, and all that it is told.

It runs handlers of others, as workers do: the keys by which its API makes tokens and signs addresses are not for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final

from shared.bus.client import RedisSettings
from shared.cloud.provider_settings import ProviderSettings
from shared.store.settings import DatabaseSettings
from shared.telemetry.logs import LogSettings

__all__ = ["SmallJobChildSettings", "passed_on"]

_OURS: Final = "FLEETWIRE_"


@dataclass(frozen=True, kw_only=True)
class SmallJobChildSettings(DatabaseSettings, RedisSettings, ProviderSettings, LogSettings):
    """What its parent is told, and it needs too."""


def passed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of an API's environment that such a child gets: of our variables only its own settings."""
    needed = {one.metadata["env"] for one in fields(SmallJobChildSettings)}
    return {name: value for name, value in environ.items() if not name.startswith(_OURS) or name in needed}
