"""What a process has that is set up for the emulated Google Drive."""

from dataclasses import dataclass

from shared.cloud.drive.auth import Tokens
from shared.cloud.drive.client import DriveClient
from shared.cloud.drive.names import PostgresClaims
from shared.cloud.drive.provider import DriveProvider
from shared.cloud.http import HttpClient
from shared.cloud.retrying import RetryPolicy
from shared.store.pool import Pool

QUICK = RetryPolicy(tries=5, total_s=10.0, base_s=0.01, cap_s=0.05)


@dataclass
class Account:
    """What a process that is set up has."""

    http: HttpClient
    tokens: Tokens
    url: str
    pool: Pool
    store: str

    def client(self, *, drive_id: str | None = None) -> DriveClient:
        return DriveClient(self.http, self.tokens, url=self.url, store=self.store, drive_id=drive_id)

    def provider(self, root_id: str, *, drive_id: str | None = None) -> DriveProvider:
        claims = PostgresClaims(self.pool, self.store)
        return DriveProvider(self.client(drive_id=drive_id), root_id, name=self.store, claims=claims)
