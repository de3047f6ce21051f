import pytest

from files.settings import Settings
from shared.settings import SettingsError, load

ENOUGH = {"FLEETWIRE_CLOUD_ROOT": "/srv/cloud"}


def test_what_is_not_said_has_a_default() -> None:
    settings = load(Settings, ENOUGH)
    assert (settings.host, settings.port, settings.ops_port) == ("127.0.0.1", 8090, 9400)


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            Settings,
            {"FLEETWIRE_FILES_PORT": "x", "FLEETWIRE_FILES_URL": "http://a/b", "FLEETWIRE_FILES_STALL_S": "-1"},
        )
    names = ("FLEETWIRE_CLOUD_ROOT", "FLEETWIRE_FILES_PORT", "FLEETWIRE_FILES_URL", "FLEETWIRE_FILES_STALL_S")
    assert all(any(name in line for line in caught.value.problems) for name in names)


def test_a_gateway_on_every_address_must_say_by_which_it_is_reached() -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_FILES_URL"):
        load(Settings, ENOUGH | {"FLEETWIRE_FILES_HOST": "0.0.0.0"})
    given = {"FLEETWIRE_FILES_HOST": "0.0.0.0", "FLEETWIRE_FILES_URL": "https://files.example"}
    assert load(Settings, ENOUGH | given).url == "https://files.example"


def test_the_secrets_are_never_shown() -> None:
    assert "sesame" not in repr(load(Settings, ENOUGH | {"FLEETWIRE_FILES_KEYS": "sesame"}))
