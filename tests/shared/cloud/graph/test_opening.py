"""From settings to stores: names, one token and budget for all drives, what is wrong said at once."""

from pathlib import Path

import pytest

from loadtests.emulators.graph import GraphEmulator
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from shared.cloud.errors import Misconfigured
from shared.cloud.provider_settings import GraphDrive, ProviderSettings
from shared.cloud.stores import open_stores


def settings(graph: GraphEmulator, certificate: Path | None = None) -> ProviderSettings:
    return ProviderSettings(
        cloud_graph_tenant=TENANT,
        cloud_graph_client_id=CLIENT_ID,
        cloud_graph_client_secret=None if certificate else CLIENT_SECRET,
        cloud_graph_certificate_file=certificate,
        cloud_graph_drives=(GraphDrive("sharepoint:north", "b!NORTH"), GraphDrive("sharepoint:south", "b!SOUTH", "In")),
        cloud_graph_url=graph.url,
        cloud_graph_login_url=graph.url,
    )


async def test_each_drive_is_a_store_and_all_share_one_token(graph: GraphEmulator) -> None:
    for drive in ("b!NORTH", "b!SOUTH"):
        graph.add_drive(drive)
    graph.write("In/x", b"", drive="b!SOUTH")
    stores = open_stores(settings(graph))
    try:
        assert stores.names == ("sharepoint:north", "sharepoint:south")
        for store in stores:
            await store.put_new("a", store.name.encode())
        assert graph.content("a", drive="b!NORTH") == b"sharepoint:north"
        assert graph.content("In/a", drive="b!SOUTH") == b"sharepoint:south"
        assert graph.login.given == 1
        assert CLIENT_SECRET not in repr(settings(graph)) + repr(stores)
    finally:
        await stores.close()


def test_a_certificate_that_is_not_there_is_said_at_once(graph: GraphEmulator, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="FLEETWIRE_GRAPH_CERTIFICATE_FILE"):
        open_stores(settings(graph, tmp_path / "none.pem"))
