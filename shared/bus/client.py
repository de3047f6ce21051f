"""Where Redis is, and redis-py clients that cannot hang.

Pub/sub does not go through redis-py: the reader and the publisher have connections of their own (`resp.py`), made from
the same URL. Everything else takes a client from here: every command has a deadline and is tried once, because what is
in Redis is a hint and waiting for it is worse than going on without.
"""

import ssl
from dataclasses import dataclass, field, replace
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from shared.settings import bounded_float, setting

__all__ = ["Endpoint", "RedisSettings", "client_name", "open_redis", "redis_url"]

# A blocking read must ask for less than this, or every idle wait looks like a dead connection.
SOCKET_TIMEOUT_S: Final = 5.0


def client_name(name: str) -> str:
    """The name for CLIENT LIST: Redis refuses a connection whose name has blanks or other than printable ASCII."""
    return "".join(c if "!" <= c <= "~" else "_" for c in name[:64])


def redis_url(raw: str) -> str:
    """A setting's parser: redis://, rediss:// or unix://, with host or path."""
    Endpoint.several(raw)
    return raw


@dataclass(frozen=True, kw_only=True)
class RedisSettings:
    """Where Redis is and how long anything waits for it; a base class of a process's settings."""

    redis_url: str = setting(
        "FLEETWIRE_REDIS_URL",
        help=(
            "Redis >= 7 or Valkey >= 8: redis://user:password@host:port/0, rediss:// with TLS, or unix:///path. "
            "Nodes of a cluster: redis://user:password@host:port,host:port."
        ),
        parse=redis_url,
        secret=True,
    )
    redis_deadline_s: float = setting(
        "FLEETWIRE_REDIS_DEADLINE_S",
        1.0,
        help="Seconds to wait for an answer of Redis.",
        parse=bounded_float(0.01, 4.0),
    )


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One Redis server, as a URL says it."""

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    tls: bool = False
    tls_ca_file: str | None = None
    tls_verify: bool = True

    @classmethod
    def from_url(cls, url: str) -> "Endpoint":
        """Raises ValueError that says what is wrong and never shows the password."""
        scheme = urlsplit(url).scheme
        if scheme not in ("redis", "rediss", "unix"):
            raise ValueError("must begin with redis://, rediss:// or unix://")
        try:
            parsed: dict[str, Any] = dict(parse_url(url))
        except (ValueError, TypeError):
            raise ValueError("cannot be read as a Redis URL") from None
        return cls(
            host=parsed.get("host", "localhost"),
            port=int(parsed.get("port", 6379)),
            path=parsed.get("path"),
            username=parsed.get("username"),
            password=parsed.get("password"),
            database=int(parsed.get("db", 0)),
            tls=scheme == "rediss",
            tls_ca_file=parsed.get("ssl_ca_certs"),
            tls_verify=str(parsed.get("ssl_cert_reqs", "required"))
            not in ("none", "CERT_NONE", "VerifyMode.CERT_NONE"),
        )

    @classmethod
    def several(cls, url: str) -> "tuple[Endpoint, ...]":
        """All addresses in a URL such as `redis://:password@a:6379,b:6379/0`, in their order. Raises as `from_url`."""
        return tuple(cls.from_url(one) for one in _each(url))

    def at(self, host: str, port: int) -> "Endpoint":
        """The same credentials at another address."""
        return replace(self, host=host, port=port)

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix://{self.path}"
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.database}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """How to verify the server, or None without TLS."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.tls_ca_file)
        if not self.tls_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _each(url: str) -> list[str]:
    parts = urlsplit(url)
    user, at, hosts = parts.netloc.rpartition("@")
    return [urlunsplit(parts._replace(netloc=f"{user}{at}{host}")) for host in hosts.split(",")]


def open_redis(url: str, *, deadline_s: float = 1.0, connections: int = 16, name: str = "fleetwire") -> Redis:
    """A client of one Redis whose commands fail within `deadline_s` and are not repeated. Opens nothing yet; `aclose()`
    ends it. `LazyRedis` is what processes use: it asks first whether this is a cluster. Of several addresses the first
    is taken.

    Blocking reads get `SOCKET_TIMEOUT_S` instead: give them a client made with `deadline_s=SOCKET_TIMEOUT_S`.
    """
    url = _each(url)[0]
    tcp_only: dict[str, Any] = {} if Endpoint.from_url(url).path is not None else {"socket_keepalive": True}
    client: Redis = Redis.from_url(
        url,
        socket_timeout=deadline_s,
        socket_connect_timeout=deadline_s,
        retry=Retry(NoBackoff(), 0),
        max_connections=connections,
        client_name=client_name(name),
        protocol=3,
        decode_responses=False,
        **tcp_only,
    )
    return client
