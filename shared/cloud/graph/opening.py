"""From the settings to the providers: one for each drive, all under one application, one token and one budget."""

from collections.abc import Sequence

from shared.cloud.budget import CallBudget
from shared.cloud.call_bucket import CallLimit
from shared.cloud.graph.auth import AppTokens, Certificate, Proof, Secret
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.provider import Provider
from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.stores import Means

__all__ = ["open_graph"]


def open_graph(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
    """The stores `sharepoint` and `sharepoint:…`; none when none is set up. Raises Misconfigured."""
    tenant, client_id = settings.cloud_graph_tenant, settings.cloud_graph_client_id
    if tenant is None or client_id is None or not settings.cloud_graph_drives:
        return []
    proof: Proof
    if settings.cloud_graph_certificate_file is not None:
        proof = Certificate.read(settings.cloud_graph_certificate_file)
    else:
        proof = Secret(settings.cloud_graph_client_secret or "")
    tokens = AppTokens(
        means.http,
        login_url=settings.cloud_graph_login_url,
        tenant=tenant,
        client_id=client_id,
        proof=proof,
        scope=f"{settings.cloud_graph_url}/.default",
    )
    limit = CallLimit(settings.cloud_graph_units)
    budget = CallBudget(f"graph:{tenant}:{client_id}", store="sharepoint", limit=limit, redis=means.redis)
    opened: list[Provider] = []
    for drive in settings.cloud_graph_drives:
        client = GraphClient(means.http, tokens, url=settings.cloud_graph_url, store=drive.store, gate=budget)
        opened.append(
            GraphProvider(
                client, drive.drive_id, drive.root, name=drive.store, who=client_id, hint_s=lambda: budget.paused_s
            )
        )
    return opened
