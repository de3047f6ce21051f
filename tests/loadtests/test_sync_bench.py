from itertools import islice
from typing import Any

from loadtests.sync_bench import TEMPLATE, Phase, Work
from loadtests.sync_model import Model
from shared.protocol.operations import Invalid, decode_operation


def applied_by(batches: list[list[dict[str, Any]]]) -> int:
    model = Model()
    return sum(one[0] == "done" for batch in batches for one in model.batch("device:truck-7", batch))


def test_all_that_is_sent_can_be_applied_in_hundreds_and_one_by_one() -> None:
    hundreds = list(islice(Work(1).hundreds(), 5))
    assert [len(batch) for batch in hundreds] == [100] * 5
    assert applied_by(hundreds) == 500
    verbs = [operation["type"].rpartition(".")[2] for operation in hundreds[-1]]
    assert (verbs.count("create"), verbs.count("update"), verbs.count("submit")) == (40, 40, 20)
    singles = list(islice(Work(1).one_by_one(), 500))
    assert {len(batch) for batch in singles} == {1}
    assert applied_by(singles) == 500
    decoded = [decode_operation(operation) for batch in hundreds for operation in batch]
    assert not [one for one in decoded if isinstance(one, Invalid)]
    assert hundreds[0][0]["data"]["template_id"] == TEMPLATE


def test_a_phase_says_what_a_core_does() -> None:
    phase = Phase(100, 8, operations=10_000, seconds=2.0, api_cpu_s=1.0, postgres_cpu_s=1.5)
    assert (phase.rate, phase.per_core) == (5000.0, 4000.0)
    assert phase.summary()["api_cpu_us_per_operation"] == 100.0
    assert Phase(1, 1).per_core == 0.0
