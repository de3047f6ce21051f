"""Settings of a hub that do not fit each other are refused together."""

import pytest

from hub.settings import Settings
from shared.settings import SettingsError, load
from tests.hub.conftest import environment


def problems(**changes: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Settings, environment("hub-1", "postgresql://x/y", "redis://x", changes))
    return caught.value.problems


def test_the_defaults_of_the_tests_are_good() -> None:
    settings = load(Settings, environment("hub-1", "postgresql://x/y", "redis://x", {}))
    assert (settings.name, settings.capacity) == ("hub-1", 500)
    assert "postgresql://" not in repr(settings)


def test_fields_that_contradict_each_other_are_all_named() -> None:
    found = problems(
        FLEETWIRE_HUB_HEARTBEAT_S="25",
        FLEETWIRE_HUB_PONG_S="10",
        FLEETWIRE_HUB_WINDOW_FIRST_BYTES="2000000",
        FLEETWIRE_HUB_HOST="0.0.0.0",
        FLEETWIRE_HUB_SYNC_AT_ONCE="6",
    )
    assert len(found) == 4
    assert any("FLEETWIRE_HUB_URL" in problem for problem in found)


@pytest.mark.parametrize("name", ["", "-x", "a b", "a/b", "x" * 65])
def test_a_hub_needs_a_plain_name(name: str) -> None:
    assert "FLEETWIRE_HUB_NAME" in problems(FLEETWIRE_HUB_NAME=name)[0]


@pytest.mark.parametrize("url", ["http://hub", "ws://", "ws://hub/?x=1"])
def test_a_hubs_url_is_a_socket_address(url: str) -> None:
    assert "FLEETWIRE_HUB_URL" in problems(FLEETWIRE_HUB_URL=url)[0]
