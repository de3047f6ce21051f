"""Settings from the environment, and what they must not contradict."""

import pytest

from shared.settings import SettingsError, load
from watcher.settings import Settings

GIVEN = {
    "FLEETWIRE_DATABASE_URL": "postgresql://u:secret@localhost/db",
    "FLEETWIRE_REDIS_URL": "redis://localhost",
    "FLEETWIRE_CLOUD_ROOT": "/srv/cloud",
}


def test_the_usual_numbers() -> None:
    settings = load(Settings, GIVEN)
    assert (settings.heartbeat_s, settings.trust_s, settings.lease_s) == (10.0, 20.0, 30.0)
    assert (settings.settle_s, settings.rescan_s, settings.ops_port) == (0.05, 60.0, 9201)
    assert settings.name
    assert "secret" not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FLEETWIRE_WATCHER_TRUST_S", "31"),
        ("FLEETWIRE_WATCHER_HEARTBEAT_S", "20"),
        ("FLEETWIRE_WATCHER_LEASE_S", "19"),
        ("FLEETWIRE_WATCHER_SILENCE_S", "1"),
        ("FLEETWIRE_WATCHER_SILENCE_S", "31"),
        ("FLEETWIRE_WATCHER_NAME", "no blanks"),
        ("FLEETWIRE_WATCHER_NOTICES", "sometimes"),
    ],
)
def test_what_cannot_be_is_refused_with_the_variables_name(variable: str, value: str) -> None:
    with pytest.raises(SettingsError, match=variable):
        load(Settings, GIVEN | {variable: value})


def test_everything_can_run_twenty_times_faster() -> None:
    quick = {
        "FLEETWIRE_WATCHER_HEARTBEAT_S": "0.5",
        "FLEETWIRE_WATCHER_LEASE_S": "1.5",
        "FLEETWIRE_WATCHER_TRUST_S": "1",
        "FLEETWIRE_WATCHER_MEMBERSHIP_S": "0.025",
        "FLEETWIRE_WATCHER_SILENCE_S": "0.75",
    }
    assert load(Settings, GIVEN | quick).lease_s == 1.5
