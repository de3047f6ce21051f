"""A notice goes from the command line through the API, the bus and the hub to the application of each device once."""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from device.client import Client
from device.route import State
from loadtests.fault_proxy import FaultProxy
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

FLEETWIRE = str(Path(sys.executable).with_name("fleetwire"))


async def notice(site: Site, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        FLEETWIRE,
        "notice",
        *arguments,
        env={**os.environ, "FLEETWIRE_HOME": str(site.machine.folder / "home")},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(60):
        said, complaint = await process.communicate()
    assert process.returncode == 0, complaint
    return str(json.loads(said)["id"])


async def test_a_notice_reaches_one_class_or_all_and_a_repeat_nobody(site: Site, tmp_path: Path) -> None:
    got: dict[str, list[Mapping[str, Any]]] = {"truck": [], "office": []}
    clients = []
    async with FaultProxy(site.hub, port=site.hub_port):
        for device_class, heard in got.items():
            device_id = site.new_device(device_class)
            clients.append(
                Client(
                    device_id,
                    token=site.machine.token(device_id, "device", device_class=device_class),
                    api=site.machine.api,
                    folder=tmp_path / device_id,
                    on_notice=heard.append,
                )
            )
        for client in clients:
            await client.start()
        try:
            async with asyncio.timeout(30):
                while not all(client.state.state is State.LIVE for client in clients):
                    await asyncio.sleep(0.02)
            assert await notice(site, "--class", "truck", "--data", '{"gate": 7}', "--id", "gate-7") == "gate-7"
            await notice(site, "--data", '{"gate": 7}', "--id", "gate-7")
            await notice(site, "--data", '{"all": true}')
            async with asyncio.timeout(30):
                while not all({"all": True} in heard for heard in got.values()):
                    await asyncio.sleep(0.02)
        finally:
            for client in clients:
                await client.close()
    assert got == {"truck": [{"gate": 7}, {"all": True}], "office": [{"gate": 7}, {"all": True}]}
