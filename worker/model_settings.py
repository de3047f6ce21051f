"""Settings of the model that a worker asks: where it is, its name, what it costs, and how much may be spent."""

from dataclasses import dataclass
from typing import Any

from shared.settings import bounded_float, bounded_int, setting, text
from shared.store.model_usage import Budgets
from worker.handlers.model.client import Deadlines
from worker.handlers.model.handler import ModelPlan
from worker.handlers.model.prices import Prices, money

__all__ = ["ModelSettings"]


def _address(raw: str) -> str:
    if not raw.startswith(("http://", "https://")) or any(c.isspace() for c in raw) or len(raw) > 2000:
        raise ValueError("not an http or https address")
    return raw


def _key(raw: str) -> str:
    if not raw.isascii() or not raw.isprintable() or " " in raw or len(raw) > 4096:
        raise ValueError("not a line of printable ASCII without spaces")
    return raw


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """Without a key the model handler says so in its responses. Money is in whatever currency prices are told in."""

    model_key: str | None = setting(
        "FLEETWIRE_MODEL_KEY", None, help="Key of the model's server; any word where it asks for none.",
        parse=_key, secret=True,
    )  # fmt: skip
    model_url: str = setting(
        "FLEETWIRE_MODEL_URL", "https://api.openai.com/v1", help="Base of an OpenAI-compatible interface.",
        parse=_address,
    )  # fmt: skip
    model_name: str | None = setting(
        "FLEETWIRE_MODEL_NAME", None, help="Model that is asked.", parse=text(max_length=200)
    )
    model_price_in: int | None = setting(
        "FLEETWIRE_MODEL_PRICE_IN", None, help="Price of a million tokens of requests, as in 0.15.", parse=money
    )
    model_price_out: int | None = setting(
        "FLEETWIRE_MODEL_PRICE_OUT", None, help="Price of a million tokens of answers, as in 0.60.", parse=money
    )
    model_budget_device: int = setting(
        "FLEETWIRE_MODEL_BUDGET_DEVICE", 1_000_000, help="Most that a device may cost on one day (UTC).", parse=money
    )
    model_budget_all: int = setting(
        "FLEETWIRE_MODEL_BUDGET_ALL", 20_000_000, help="Most that all devices may cost on one day (UTC).", parse=money
    )
    model_image_tokens: int = setting(
        "FLEETWIRE_MODEL_IMAGE_TOKENS", 2000, help="Most tokens that an image is counted as.",
        parse=bounded_int(1, 1_000_000),
    )  # fmt: skip
    model_max_tokens: int = setting(
        "FLEETWIRE_MODEL_MAX_TOKENS", 1024, help="Most tokens of an answer.", parse=bounded_int(1, 1_000_000)
    )
    model_connect_s: float = setting(
        "FLEETWIRE_MODEL_CONNECT_S", 5.0, help="Bound on connecting.", parse=bounded_float(0.05, 60)
    )
    model_first_s: float = setting(
        "FLEETWIRE_MODEL_FIRST_S", 60.0, help="Bound on the time to the first word.", parse=bounded_float(0.05, 3600)
    )
    model_silence_s: float = setting(
        "FLEETWIRE_MODEL_SILENCE_S", 20.0, help="Bound on silence within an answer.", parse=bounded_float(0.05, 600)
    )
    model_whole_s: float = setting(
        "FLEETWIRE_MODEL_WHOLE_S", 150.0, help="Bound on a whole answer.", parse=bounded_float(0.05, 3600)
    )

    def model_problems(self) -> list[str]:
        """With a key, what decides on money must be said and not guessed."""
        if self.model_key is None:
            return []
        said: dict[str, Any] = {
            "FLEETWIRE_MODEL_NAME": self.model_name,
            "FLEETWIRE_MODEL_PRICE_IN": self.model_price_in,
            "FLEETWIRE_MODEL_PRICE_OUT": self.model_price_out,
        }
        return [
            f"{name} is not set: with FLEETWIRE_MODEL_KEY it must be, so that budgets hold (a price may be 0)"
            for name, value in said.items()
            if value is None
        ]

    @property
    def model_deadlines(self) -> Deadlines:
        """For one call."""
        return Deadlines(self.model_connect_s, self.model_first_s, self.model_silence_s, self.model_whole_s)

    @property
    def model_plan(self) -> ModelPlan:
        """What may be asked for and spent."""
        return ModelPlan(
            self.model_name or "",
            self.model_max_tokens,
            Prices(self.model_price_in or 0, self.model_price_out or 0, self.model_image_tokens),
            Budgets(self.model_budget_device, self.model_budget_all),
        )
