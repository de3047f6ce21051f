"""What failed is asked again only when that cannot make it happen twice."""

import pytest

from shared.store.retrying import LOST, UNSENT, Phase, is_read_only_server, may_repeat


@pytest.mark.parametrize("code", ["40001", "40P01", "25006", UNSENT])
@pytest.mark.parametrize("phase", Phase)
@pytest.mark.parametrize("repeatable", [False, True])
def test_what_the_server_undid_or_refused_or_never_got_is_always_repeated(
    code: str, phase: Phase, repeatable: bool
) -> None:
    assert may_repeat(code, phase, repeatable=repeatable)


@pytest.mark.parametrize("code", [LOST, "08003", "08006", "57P01", "57P02", "57P03"])
def test_a_lost_server_is_asked_again_unless_the_outcome_may_stand(code: str) -> None:
    assert may_repeat(code, Phase.WAITING, repeatable=False)
    assert may_repeat(code, Phase.WORKING, repeatable=False)
    assert not may_repeat(code, Phase.ENDING, repeatable=False)
    assert may_repeat(code, Phase.ENDING, repeatable=True)


@pytest.mark.parametrize("code", [None, "23505", "42601", "57014", "55P03", "53300", "22012", "28P01"])
@pytest.mark.parametrize("phase", Phase)
def test_nothing_else_is_repeated(code: str | None, phase: Phase) -> None:
    assert not may_repeat(code, phase, repeatable=True)


def test_only_a_refused_write_says_that_the_server_is_no_primary() -> None:
    assert is_read_only_server("25006")
    assert not is_read_only_server("25001")
    assert not is_read_only_server(None)
