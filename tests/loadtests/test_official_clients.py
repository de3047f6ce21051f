"""boto3 is here anyway; the others are installed when one asks for them (loadtests/official_clients.py)."""

import sys

from loadtests.official_clients import checked, running


def test_boto3_works_unchanged_at_the_server_that_stands_for_s3() -> None:
    with running("s3") as told:
        found = checked("s3", sys.executable, told)
    assert len(found) >= 7
    assert [one for one in found if not one["ok"]] == []


def test_a_library_that_is_not_there_is_a_failure_and_no_silence() -> None:
    found = checked("microsoft_graph", sys.executable, {"url": "http://127.0.0.1:9"})
    assert [one["ok"] for one in found] == [False]
    assert "ModuleNotFoundError" in found[0]["error"]
