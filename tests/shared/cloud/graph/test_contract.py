"""SharePoint by the contract of all providers: a whole drive, a folder of one, and sessions that heed no waiting."""

import pytest

from loadtests.emulators.graph import GraphEmulator
from shared.cloud.provider import Provider
from tests.shared.cloud.contract import SplitPutContract
from tests.shared.cloud.graph.tenant import Tenant


class TestContract(SplitPutContract):
    @pytest.fixture
    def provider(self, tenant: Tenant, graph: GraphEmulator) -> Provider:
        # A folder inside of a drive whose feed repeats rows and has empty pages: the harder case throughout.
        graph.drive.folder(graph.drive.root, "Fleet/North")
        graph.write("Elsewhere/Requests/truck-7/a.txt", b"not ours")
        graph.drive.manners.repeat_rows = 0.3
        graph.drive.manners.empty_page_every = 3
        graph.drive.manners.page_size = 5
        return tenant.provider(root="Fleet/North")
