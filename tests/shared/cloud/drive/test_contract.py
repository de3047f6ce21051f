"""The contract of the port, at Google Drive."""

import pytest

from shared.cloud.drive.provider import DriveProvider
from tests.shared.cloud.contract import SplitPutContract
from tests.shared.cloud.drive.account import Account


class TestDriveContract(SplitPutContract):
    @pytest.fixture
    def provider(self, account: Account, root: str) -> DriveProvider:
        return account.provider(root)
