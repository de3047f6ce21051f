"""The contract of the port, at Google Drive."""

import pytest

from shared.cloud.drive.provider import DriveProvider
from tests.shared.cloud.contract import ProviderContract
from tests.shared.cloud.drive.account import Account


class TestDriveContract(ProviderContract):
    @pytest.fixture
    def provider(self, account: Account, root: str) -> DriveProvider:
        return account.provider(root)
