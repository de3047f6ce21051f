"""From the settings to the providers: one for each folder, all under one account and one token."""

from collections.abc import Sequence
from typing import Final

from shared.cloud.budget import CallBudget
from shared.cloud.call_bucket import CallLimit
from shared.cloud.drive.auth import Tokens, read_key
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.names import PostgresClaims
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.provider import Provider
from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.stores import Means

__all__ = ["open_drives"]

_CALLS_A_MINUTE: Final = 12_000
"""What Google allows one account, if nothing else was agreed."""


def open_drives(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
    """The stores `drive` and `drive:…`; none when none is set up. Raises Misconfigured for a bad key file."""
    if settings.cloud_drive_key_file is None or not settings.cloud_drive_roots:
        return []
    key = read_key(settings.cloud_drive_key_file)
    tokens = Tokens(means.http, key, store="drive")
    limit = CallLimit(_CALLS_A_MINUTE)
    budget = CallBudget(f"drive:{key.email}", store="drive", limit=limit, redis=means.redis)
    opened: list[Provider] = []
    for root in settings.cloud_drive_roots:
        client = DriveClient(
            means.http, tokens, url=settings.cloud_drive_url, store=root.store, drive_id=root.drive_id, gate=budget
        )
        claims = PostgresClaims(means.pool, root.store) if means.pool is not None else None
        opened.append(DriveProvider(client, root.folder_id, name=root.store, claims=claims))
    return opened
