"""Every code says how to come back, and so does every code we do not know yet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.close_codes import CloseCode, Return, how_to_return


@pytest.mark.parametrize(
    ("code", "way"),
    [
        (1000, Return.AFTER_BACKOFF), (1006, Return.AFTER_BACKOFF), (1007, Return.NEVER), (1009, Return.NEVER),
        (4000, Return.NOW), (4001, Return.NOW), (4002, Return.NOW), (4077, Return.NOW),
        (4100, Return.AFTER_BACKOFF), (4102, Return.AFTER_BACKOFF), (4103, Return.AFTER_BACKOFF),
        (4200, Return.WITH_NEW_TOKEN), (4201, Return.WITH_NEW_TOKEN), (4299, Return.WITH_NEW_TOKEN),
        (4300, Return.NEVER), (4301, Return.NEVER), (4302, Return.NEVER), (4399, Return.NEVER),
    ],
)  # fmt: skip
def test_the_range_of_a_code_says_how_to_come_back(code: int, way: Return) -> None:
    assert how_to_return(code) is way


@given(st.integers(0, 70000))
def test_every_number_has_an_answer(code: int) -> None:
    assert isinstance(how_to_return(code), Return)


@pytest.mark.parametrize("code", list(CloseCode))
def test_every_code_has_a_reason_that_fits_a_close_frame(code: CloseCode) -> None:
    assert 0 < len(code.reason.encode()) <= 123
