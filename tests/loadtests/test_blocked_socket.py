"""The load beside a blocked socket: when it ends too early, that is what the run says."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from loadtests.blocked_socket import flowing
from loadtests.machine import Machine
from loadtests.ports import free_port


def without_api() -> Machine:
    nowhere: Any = SimpleNamespace(api=f"http://127.0.0.1:{free_port()}", token=lambda *_: "t")
    return cast("Machine", nowhere)


async def test_what_killed_the_flow_is_said_at_once_instead_of_what_then_did_not_come() -> None:
    with pytest.raises(RuntimeError, match=r"could not be published: ConnectError"):
        async with asyncio.timeout(20), flowing(without_api(), ["truck-1"]):
            await asyncio.get_running_loop().create_future()


async def test_what_fails_beside_the_flow_is_said_as_it_is() -> None:
    with pytest.raises(TimeoutError, match="nobody came back"):
        async with flowing(without_api(), ["truck-1"]):
            raise TimeoutError("nobody came back")
