"""What bearer tokens must say, and where the keys of their issuer are published; part of the settings of whoever
verifies tokens."""

from dataclasses import dataclass
from urllib.parse import urlsplit

from shared.settings import bounded_float, setting, text
from shared.telemetry.health import is_loopback
from shared.tokens import API_AUDIENCE, HUB_AUDIENCE, TokenRules

__all__ = ["KeyUrlSettings"]


def _key_url(raw: str) -> str:
    parts = urlsplit(raw)
    local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if (parts.scheme != "https" and not local) or not parts.hostname or parts.fragment or parts.username:
        raise ValueError("must be https://host/path, or http:// to this machine, without a user")
    return raw


def _audience(raw: str) -> str:
    if raw == HUB_AUDIENCE:
        raise ValueError("is the audience of socket tickets")
    return text(max_length=256)(raw)


@dataclass(frozen=True, kw_only=True)
class KeyUrlSettings:
    """Seconds end in `_s`."""

    token_issuer: str | None = setting(
        "FLEETWIRE_TOKEN_ISSUER",
        None,
        help="What bearer tokens must have as iss; unset, any or none.",
        parse=text(max_length=256),
    )
    token_audience: str = setting(
        "FLEETWIRE_TOKEN_AUDIENCE", API_AUDIENCE, help="What bearer tokens must have as aud.", parse=_audience
    )
    token_skew_s: float = setting(
        "FLEETWIRE_TOKEN_SKEW_S",
        0.0,
        help="How far the clock of whoever signs bearer tokens may be from this one's.",
        parse=bounded_float(0, 300),
    )
    token_keys_url: str | None = setting(
        "FLEETWIRE_TOKEN_KEYS_URL",
        None,
        help="Where the issuer of bearer tokens publishes its key set (JWKS): https://host/path.",
        parse=_key_url,
    )
    token_keys_refresh_s: float = setting(
        "FLEETWIRE_TOKEN_KEYS_REFRESH_S",
        300.0,
        help="How often that key set is fetched when it does not say how long it is good; at most 5 times as often, "
        "and at least a twelfth as often, when it does.",
        parse=bounded_float(0.05, 86_400),
    )
    token_keys_unknown_s: float = setting(
        "FLEETWIRE_TOKEN_KEYS_UNKNOWN_S",
        5.0,
        help="A token of an unknown key makes it be fetched at once, but not more often than this.",
        parse=bounded_float(0.05, 3600),
    )
    token_keys_age_s: float = setting(
        "FLEETWIRE_TOKEN_KEYS_AGE_S",
        86_400.0,
        help="How long the last good key set is used while its address gives none.",
        parse=bounded_float(0.1, 2_592_000),
    )

    def token_rules(self) -> TokenRules:
        """What bearer tokens must say."""
        return TokenRules(self.token_issuer, self.token_audience, self.token_skew_s)
