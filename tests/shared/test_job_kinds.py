import pytest

from shared.job_kinds import DEFAULT_KINDS, JobKindSettings
from shared.settings import SettingsError, load


def test_what_waits_for_a_model_has_a_queue_of_its_own() -> None:
    assert [DEFAULT_KINDS.queue_of(kind) for kind in ("model", "photo", "unknown")] == ["ai", "requests", "requests"]
    assert DEFAULT_KINDS.priority_of("photo") == 0


def test_queues_and_priorities_of_kinds_are_settings() -> None:
    environ = {
        "FLEETWIRE_JOB_QUEUES": '{"photo": "slow"}',
        "FLEETWIRE_JOB_PRIORITIES": '{"photo": -2, "table": 9}',
    }
    kinds = load(JobKindSettings, environ).job_kinds("requests")
    assert [kinds.queue_of(kind) for kind in ("photo", "model")] == ["slow", "requests"]
    assert [kinds.priority_of(kind) for kind in ("photo", "table", "model")] == [-2, 9, 0]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUEUES", "ai"), ("QUEUES", "[]"), ("QUEUES", '{"model": 1}'), ("QUEUES", '{"": "ai"}'),
        ("PRIORITIES", '{"a": 10}'), ("PRIORITIES", '{"a": true}'), ("PRIORITIES", '{"a": "1"}'),
    ],
)  # fmt: skip
def test_rules_that_make_no_sense_are_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=f"FLEETWIRE_JOB_{name}"):
        load(JobKindSettings, {f"FLEETWIRE_JOB_{name}": value})
