"""What a call costs, and the most that it can cost, in whole millionths of a currency. [pure]

A token of a text is at least one byte of it, so the bytes bound the tokens; what frames a message is a few tokens
more. Everything is rounded up: a sum of calls is never below what is billed for them.
"""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from worker.handlers.model.wire import Prepared, Usage

__all__ = ["MICROS", "Prices", "money", "shown"]

MICROS: Final = 1_000_000
_FRAME_TOKENS: Final = 16


@dataclass(frozen=True, slots=True)
class Prices:
    """Millionths for a million tokens, and how many tokens an image is counted as at most."""

    input_micros: int
    output_micros: int
    image_tokens: int

    def cost(self, usage: Usage) -> int:
        """Of what was counted."""
        whole = usage.prompt_tokens * self.input_micros + usage.completion_tokens * self.output_micros
        return -(-whole // MICROS)

    def most(self, prepared: Prepared, max_tokens: int) -> Usage:
        """The most that a request can be counted as."""
        framing = _FRAME_TOKENS * (len(prepared.messages) + 1)
        return Usage(prepared.text_bytes + framing + prepared.images * self.image_tokens, max_tokens)


def money(raw: str) -> int:
    """An amount as people write it, "2.50", in millionths. Raises ValueError."""
    try:
        micros = Decimal(raw) * MICROS
    except InvalidOperation:
        raise ValueError("not an amount like 2.50") from None
    if not micros.is_finite() or not 0 <= micros <= 10**15 or micros != micros.to_integral_value():
        raise ValueError("not an amount from 0 to 1000000000 with at most six decimals")
    return int(micros)


def shown(micros: int) -> str:
    """Millionths as people read them: "0.001250"."""
    return f"{micros // MICROS}.{micros % MICROS:06d}"
