"""Which server carries job hints: `FLEETWIRE_QUEUE_URL` says it by its scheme, Redis unless it is set."""

from dataclasses import dataclass
from random import Random
from urllib.parse import urlsplit

from shared.bus.client import RedisSettings, redis_url
from shared.bus.hints import HintOffers, HintWaits
from shared.bus.job_hints import JobHintReader, JobHints
from shared.settings import setting

__all__ = ["QueueSettings", "open_offers", "open_waits"]

_RABBIT = ("amqp", "amqps")


def _queue_url(raw: str) -> str:
    scheme = urlsplit(raw).scheme
    if scheme in _RABBIT:
        from shared.rabbit.address import RabbitAddress  # a process that uses Redis does not load it

        RabbitAddress.from_url(raw)
        return raw
    if scheme not in ("redis", "rediss", "unix"):
        raise ValueError("must begin with redis://, rediss://, unix://, amqp:// or amqps://")
    return redis_url(raw)


@dataclass(frozen=True, kw_only=True)
class QueueSettings(RedisSettings):
    """Where hints of jobs go; a base class of the settings of what sends or takes them."""

    queue_url: str | None = setting(
        "FLEETWIRE_QUEUE_URL",
        None,
        help=(
            "Carries the hints that jobs wait; default: FLEETWIRE_REDIS_URL. RabbitMQ >= 3.10: "
            "amqp://user:password@host:5672,host:5672/vhost, or amqps:// with TLS."
        ),
        parse=_queue_url,
        secret=True,
    )

    @property
    def hints_url(self) -> str:
        """The server that carries hints: a secret."""
        return self.queue_url or self.redis_url


def open_offers(url: str, *, name: str, rand: Random | None = None) -> HintOffers:
    """The sending side. Opens nothing until its `run()`."""
    if urlsplit(url).scheme in _RABBIT:
        from shared.rabbit.hints import RabbitHints

        return RabbitHints(url, name=name, rand=rand)
    return JobHints(url, name=name, rand=rand)


def open_waits(url: str, queue: str, *, consumer: str, rand: Random | None = None) -> HintWaits:
    """The receiving side of the worker `consumer`. Opens nothing until its `wait()`."""
    if urlsplit(url).scheme in _RABBIT:
        from shared.rabbit.hint_reader import RabbitHintReader

        return RabbitHintReader(url, queue, consumer=consumer, rand=rand)
    return JobHintReader(url, queue, consumer=consumer, rand=rand)
