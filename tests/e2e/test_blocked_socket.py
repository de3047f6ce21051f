"""The socket cannot be had, in every way a network has for that: REST takes over, and the socket comes back."""

import pytest

from device.timing import Timing
from loadtests.blocked_socket import BLOCKED, blockade
from loadtests.fault_proxy import Way
from tests.e2e.conftest import Site

pytestmark = [pytest.mark.processes, pytest.mark.timeout(150)]

# The client's waits are a twelfth; half of the time that this would give the promises is left to a loaded machine.
FASTER = 12.0


@pytest.mark.parametrize("way", BLOCKED, ids=lambda way: way.name.lower())
async def test_a_device_goes_on_by_rest_and_comes_back_to_its_socket(site: Site, way: Way) -> None:
    found = await blockade(
        site.machine,
        way,
        port=site.hub_port,
        devices=2,
        hold_s=1.0,
        timing=Timing().faster(FASTER),
        faster=FASTER / 2,
    )
    assert found.passed, found
