"""What the API is told about keeping templates; a base class of its settings."""

from dataclasses import dataclass

from shared.settings import bounded_float, bounded_int, setting

__all__ = ["TemplateCacheSettings"]


@dataclass(frozen=True, kw_only=True)
class TemplateCacheSettings:
    """How much, and for how long. However these are set, no answer is older than a second."""

    template_cache_max_bytes: int = setting(
        "FLEETWIRE_TEMPLATE_CACHE_MAX_BYTES",
        100_000_000,
        help="Most bytes of templates that an API process keeps; 0 keeps none.",
        parse=bounded_int(0, 4 * 1024**3),
    )
    template_cache_s: float = setting(
        "FLEETWIRE_TEMPLATE_CACHE_S",
        300.0,
        help="How long an API process keeps a template.",
        parse=bounded_float(0.01, 86_400),
    )
    template_cache_compare_s: float = setting(
        "FLEETWIRE_TEMPLATE_CACHE_COMPARE_S",
        0.5,
        help="How often an API process asks Postgres which of the templates that it keeps have changed.",
        parse=bounded_float(0.01, 60),
    )
    template_cache_redis_s: float = setting(
        "FLEETWIRE_TEMPLATE_CACHE_REDIS_S",
        3600.0,
        help="How long Redis keeps a template.",
        parse=bounded_float(1, 7 * 86_400),
    )
    template_cache_redis_deadline_s: float = setting(
        "FLEETWIRE_TEMPLATE_CACHE_REDIS_DEADLINE_S",
        0.1,
        help="How long a request for a template waits for Redis before Postgres is asked without it.",
        parse=bounded_float(0.005, 2),
    )
