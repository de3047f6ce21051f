"""The run of faults under jobs, as small as it goes: a worker that dies again and again once its response stands."""

import pytest

from loadtests.job_faults.__main__ import main
from loadtests.job_faults.judge import back_after

pytestmark = pytest.mark.processes


@pytest.mark.timeout(120)
def test_every_job_ends_once_while_a_worker_is_killed_between_response_and_event() -> None:
    assert main(["--small"]) == 0


def test_the_old_rate_is_back_when_a_whole_second_is_as_before() -> None:
    ended = [10.0, 13.05, 13.3, 13.6, 13.9, 14.2]
    assert back_after(ended, 12.0, 4.0, 20.0) == 1.0
    assert back_after(ended, 12.0, 5.0, 20.0) is None
