"""Providers for the drives of an emulated tenant."""

from dataclasses import dataclass, field
from random import Random
from typing import Final

from loadtests.emulators.graph import DRIVE, GraphEmulator
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from shared.cloud.budget import CallBudget
from shared.cloud.call_bucket import CallLimit
from shared.cloud.graph.auth import AppTokens, Proof, Secret
from shared.cloud.graph.client import GraphClient
from shared.cloud.graph.provider import GraphProvider
from shared.cloud.http import HttpClient
from shared.cloud.retrying import RetryPolicy

QUICK: Final = RetryPolicy(tries=4, total_s=20.0, base_s=0.01, cap_s=0.05)


async def at_once(seconds: float) -> None:
    """No wait for a hash that comes late."""


@dataclass
class Tenant:
    """One application at the emulator."""

    emulator: GraphEmulator
    http: HttpClient = field(default_factory=lambda: HttpClient(deadline_s=10.0, policy=QUICK, rand=Random(1)))
    opened: list[GraphProvider] = field(default_factory=list)

    def tokens(self, *, proof: Proof | None = None, tenant: str = TENANT) -> AppTokens:
        """Of the application."""
        return AppTokens(
            self.http,
            login_url=self.emulator.url,
            tenant=tenant,
            client_id=CLIENT_ID,
            proof=proof or Secret(CLIENT_SECRET),
            scope=f"{self.emulator.url}/.default",
        )

    def budget(self) -> CallBudget:
        """Wide enough for any test."""
        return CallBudget("graph:test", store="sharepoint", limit=CallLimit(1e6), redis=None, processes=1)

    def provider(
        self, *, root: str = "", drive: str = DRIVE, tokens: AppTokens | None = None, budget: CallBudget | None = None
    ) -> GraphProvider:
        """A drive from a folder on."""
        gate = budget or self.budget()
        client = GraphClient(
            self.http, tokens or self.tokens(), url=self.emulator.url, store="sharepoint", gate=gate, policy=QUICK
        )
        made = GraphProvider(
            client, drive, root, name="sharepoint", who=CLIENT_ID, hint_s=lambda: gate.paused_s, sleep=at_once
        )
        self.opened.append(made)
        return made

    async def close(self) -> None:
        """All of it."""
        for one in self.opened:
            await one.close()
        await self.http.close()
