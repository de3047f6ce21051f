"""Where RabbitMQ is, as `FLEETWIRE_QUEUE_URL` says it. What it shows of itself never holds the password."""

import ssl
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

__all__ = ["RabbitAddress"]

_PORTS = {"amqp": 5672, "amqps": 5671}
_FILES = ("cafile", "certfile", "keyfile")
_HOSTS_MAX = 16


@dataclass(frozen=True, slots=True)
class RabbitAddress:
    """A broker: one virtual host at one or several addresses, which are tried in turn."""

    hosts: tuple[tuple[str, int], ...]
    user: str = "guest"
    password: str = field(default="guest", repr=False)
    vhost: str = "/"
    tls: bool = False
    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True

    @classmethod
    def from_url(cls, url: str) -> "RabbitAddress":
        """`amqp://user:password@host:5672,other:5672/vhost` or `amqps://…?cafile=/path`.

        Raises ValueError that says what is wrong and never shows the password.
        """
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise ValueError("must begin with amqp:// or amqps://")
        credentials, _, addresses = parts.netloc.rpartition("@")
        user, _, password = credentials.partition(":")
        hosts = tuple(_host(one, parts.scheme) for one in addresses.split(","))
        if len(hosts) > _HOSTS_MAX:
            raise ValueError(f"has more than {_HOSTS_MAX} addresses")
        if "/" in parts.path[1:]:
            raise ValueError("has a / in the virtual host: write it as %2F")
        options = _options(parts)
        return cls(
            hosts,
            unquote(user) or "guest",
            unquote(password) if user else "guest",
            unquote(parts.path[1:]) or "/",
            parts.scheme == "amqps",
            cafile=options.get("cafile"),
            certfile=options.get("certfile"),
            keyfile=options.get("keyfile"),
            verify=options.get("no_verify_ssl", "0") == "0",
        )

    def __str__(self) -> str:
        hosts = ",".join(f"{host}:{port}" for host, port in self.hosts)
        return f"{'amqps' if self.tls else 'amqp'}://{hosts}/{quote(self.vhost, safe='')}"

    def ssl_context(self) -> ssl.SSLContext | None:
        """How to verify the server and show who we are, or None without TLS. Reads the files that are named."""
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=self.cafile)
        if self.certfile is not None:
            context.load_cert_chain(self.certfile, self.keyfile)
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


def _host(address: str, scheme: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{address}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ValueError("cannot be read: a port is a number up to 65535") from None
    if not host or parts.path:
        raise ValueError("names no host")
    return host, port or _PORTS[scheme]


def _options(parts: SplitResult) -> dict[str, str]:
    given = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if unknown := sorted(given.keys() - {*_FILES, "no_verify_ssl"}):
        raise ValueError(f"has options that nobody knows: {', '.join(unknown)[:100]}")
    if given and parts.scheme != "amqps":
        raise ValueError("has options that only amqps:// takes")
    if given.get("no_verify_ssl", "0") not in ("0", "1"):
        raise ValueError("has a no_verify_ssl that is not 0 or 1")
    return given
