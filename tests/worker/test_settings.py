from pathlib import Path

import pytest

from shared.cpus import available_cpus
from shared.settings import SettingsError, load
from worker.settings import Settings

BASE = {
    "FLEETWIRE_DATABASE_URL": "postgresql://u:hush@h/d",
    "FLEETWIRE_REDIS_URL": "redis://:hush@h:6379/0",
    "FLEETWIRE_CLOUD_ROOT": "/srv/cloud",
}


def test_the_defaults_are_those_of_the_design() -> None:
    settings = load(Settings, BASE)
    assert (settings.lease_s, settings.heartbeat_s, settings.memory_bytes) == (60.0, 20.0, 500_000_000)
    assert settings.queues == ("requests", "ai")
    assert settings.scratch == Path("/srv/worker-tmp")
    assert settings.options == {"photo.position": "strip"}
    assert not settings.noop
    assert "hush" not in repr(settings)


def test_there_are_as_many_processes_as_cpus_but_not_more_than_jobs_at_once() -> None:
    assert load(Settings, BASE).handler_processes == min(available_cpus(), 8)
    assert load(Settings, BASE | {"FLEETWIRE_WORKER_CONCURRENCY": "1"}).handler_processes == 1
    assert load(Settings, BASE | {"FLEETWIRE_WORKER_PROCESSES": "3"}).handler_processes == 3


def test_queues_and_options_are_read() -> None:
    settings = load(
        Settings,
        BASE
        | {
            "FLEETWIRE_WORKER_QUEUES": "requests, ai",
            "FLEETWIRE_WORKER_HANDLER_OPTIONS": '{"table.max_columns": 5}',
            "FLEETWIRE_WORKER_PHOTO_POSITION": "keep",
        },
    )
    assert settings.queues == ("requests", "ai")
    assert settings.options == {"table.max_columns": 5, "photo.position": "keep"}


def test_every_mistake_is_named_at_once() -> None:
    wrong = BASE | {
        "FLEETWIRE_WORKER_QUEUES": ",",
        "FLEETWIRE_WORKER_HANDLER_OPTIONS": "[1]",
        "FLEETWIRE_WORKER_PHOTO_POSITION": "blur",
        "FLEETWIRE_WORKER_MEMORY_MB": "1",
    }
    with pytest.raises(SettingsError) as caught:
        load(Settings, wrong)
    assert len(caught.value.problems) == 4


def test_a_heartbeat_that_one_lost_renewal_would_break_is_refused() -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_WORKER_HEARTBEAT_S"):
        load(Settings, BASE | {"FLEETWIRE_WORKER_LEASE_S": "30"})
    with pytest.raises(SettingsError, match="FLEETWIRE_WORKER_RETRY_BASE_S"):
        load(Settings, BASE | {"FLEETWIRE_WORKER_RETRY_BASE_S": "500"})


def test_sizes_of_photos_are_checked_at_the_start() -> None:
    with pytest.raises(SettingsError, match=r"FLEETWIRE_WORKER_HANDLER_OPTIONS is wrong: photo\.sizes is 'big'"):
        load(Settings, BASE | {"FLEETWIRE_WORKER_HANDLER_OPTIONS": '{"photo.sizes": "big"}'})
