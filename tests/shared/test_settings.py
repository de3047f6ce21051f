"""Settings: all mistakes at once, and no secret in sight."""

from dataclasses import dataclass

import pytest

from shared.settings import SettingsError, boolean, bounded_float, bounded_int, choice, load, setting


@dataclass(frozen=True, kw_only=True)
class Example:
    port: int = setting("X_PORT", 8080, help="TCP port", parse=bounded_int(0, 65535))
    ttl_s: float = setting("X_TTL_S", 30.0, help="seconds", parse=bounded_float(0.1, 100))
    secret: str = setting("X_SECRET", help="the secret", secret=True)
    loud: bool = setting("X_LOUD", False, help="on or off", parse=boolean)
    mode: str = setting("X_MODE", "a", help="a or b", parse=choice("a", "b"))

    def check(self) -> list[str]:
        return ["X_TTL_S must be below X_PORT"] if self.ttl_s > self.port else []


def test_what_is_set_is_read_and_the_rest_has_its_default() -> None:
    loaded = load(Example, {"X_PORT": "9", "X_SECRET": "s", "X_LOUD": "yes", "X_TTL_S": "2.5"})
    assert loaded == Example(port=9, ttl_s=2.5, secret="s", loud=True, mode="a")


def test_all_mistakes_are_reported_at_once_and_no_secret_is_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load(Example, {"X_PORT": "70000", "X_MODE": "c", "X_LOUD": "maybe", "X_TTL_S": "nan"})
    assert len(caught.value.problems) == 5
    assert all(name in str(caught.value) for name in ("X_PORT", "X_SECRET", "X_MODE", "X_LOUD", "X_TTL_S"))


def test_an_empty_variable_counts_as_not_set() -> None:
    assert load(Example, {"X_PORT": "", "X_SECRET": "s"}).port == 8080


def test_fields_that_contradict_each_other_are_reported() -> None:
    with pytest.raises(SettingsError, match="X_TTL_S must be below X_PORT"):
        load(Example, {"X_PORT": "1", "X_SECRET": "s"})


def test_a_secret_is_not_in_the_repr() -> None:
    assert "hidden" not in repr(load(Example, {"X_SECRET": "hidden"}))
