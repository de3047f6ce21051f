"""Money in whole millionths, never below what is billed."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.handlers.model.prices import Prices, money, shown
from worker.handlers.model.wire import Prepared, Usage

amounts = st.integers(0, 10**8)


@given(amounts, amounts, st.integers(0, 10**6), st.integers(0, 10**6))
def test_a_cost_is_the_bill_rounded_up(price_in: int, price_out: int, tokens_in: int, tokens_out: int) -> None:
    cost = Prices(price_in, price_out, 1).cost(Usage(tokens_in, tokens_out))
    bill = Fraction(tokens_in * price_in + tokens_out * price_out, 10**6)
    assert bill <= cost < bill + 1


@given(st.text(max_size=50), st.integers(0, 8), st.integers(1, 1000))
def test_the_most_is_never_below_a_token_for_each_byte(text: str, images: int, max_tokens: int) -> None:
    size = len(text.encode())
    most = Prices(1, 1, 100).most(Prepared([{"role": "user", "content": text}], size, images), max_tokens)
    assert most.prompt_tokens >= size + images * 100
    assert most.completion_tokens == max_tokens


def test_amounts_are_read_and_shown_exactly() -> None:
    assert money("2.50") == 2_500_000
    assert money("0.000001") == 1
    assert shown(2_500_001) == "2.500001"
    for wrong in ("", "a", "-1", "nan", "1e99", "0.0000001"):
        with pytest.raises(ValueError, match="amount"):
            money(wrong)
