"""Addresses: what may be asked where, and which of them may see the token.

A token goes to the origin it was given for and nowhere else. What the server sends as an address is checked here before
use.
"""

import re
from typing import Final
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from device.errors import ConfigurationError, ForeignOrigin
from shared.protocol.position import Position

__all__ = ["check_api", "check_socket_url", "file_url", "next_hop", "origin", "same_origin", "socket_url"]

_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_SECURE: Final = frozenset({"https", "wss"})
_FILE_PATH: Final = re.compile(r"/api/v1/files/[A-Za-z0-9-]{1,64}/?", re.ASCII)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, as one identity. Raises ValueError when the address has none."""
    parts = urlsplit(url)
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme)
    if parts.hostname is None or port is None:
        raise ValueError("address needs a scheme (http, https, ws, wss) and a host")
    return parts.scheme, parts.hostname.lower(), port


def same_origin(one: str, other: str) -> bool:
    """Whether what is meant for one may be sent to the other. False when one of them is no address."""
    try:
        return origin(one) == origin(other)
    except ValueError:
        return False


def check_api(url: str) -> str:
    """The API's address without a trailing slash. Raises ConfigurationError."""
    return _checked(url, ("http", "https"), "api").rstrip("/")


def check_socket_url(url: str, *, api: str | None = None) -> str:
    """A socket address, given or assigned. With an API over TLS the socket has to be as well. Raises
    ConfigurationError."""
    checked = _checked(url, ("ws", "wss"), "socket url")
    if api is not None and api.startswith("https:") and not checked.startswith("wss:"):
        raise ConfigurationError("socket url must be wss:// when the API is https://")
    return checked


def socket_url(url: str, *, device_id: str, after: Position | None, instance: str, attempt: int) -> str:
    """The address of one try. The query may hold `hub=NAME` already; what is ours replaces what was there."""
    ours = {"device_id": device_id, "instance": instance, "attempt": str(attempt)}
    if after is not None:
        ours["after"] = str(after)
    parts = urlsplit(url)
    kept = [
        (key, value) for key, value in parse_qsl(parts.query, keep_blank_values=True) if key not in {*ours, "after"}
    ]
    return urlunsplit(parts._replace(query=urlencode([*ours.items(), *kept], safe=":"), fragment=""))


def file_url(api: str, url: str) -> str:
    """Where an event's file address is asked for, with the token. Raises ForeignOrigin when it is not the API's."""
    if url.startswith("/"):
        path, query = url, ""
    else:
        parts = urlsplit(url)
        path, query = parts.path, parts.query
        base = urlsplit(api).path
        if not same_origin(api, url) or not path.startswith(base):
            raise ForeignOrigin("file address leads away from the API; the token is not sent there")
        path = path[len(base) :]
    if query or _FILE_PATH.fullmatch(path) is None:
        raise ForeignOrigin("file address is not one of /api/v1/files/; the token is not sent there")
    return api + path


def next_hop(url: str, location: str) -> str:
    """Where a redirect leads. Raises ForeignOrigin when it leaves http(s) or TLS is given up on the way."""
    target = urljoin(url, location)
    parts = urlsplit(target)
    if parts.scheme not in ("http", "https") or parts.hostname is None:
        raise ForeignOrigin("redirect leads to something that is not http or https")
    if urlsplit(url).scheme in _SECURE and parts.scheme not in _SECURE:
        raise ForeignOrigin("redirect gives up TLS")
    return target


def _checked(url: str, schemes: tuple[str, str], name: str) -> str:
    try:
        parts = urlsplit(url)
        origin(url)
    except ValueError as error:
        raise ConfigurationError(f"{name}: {error}") from None
    if parts.scheme not in schemes:
        raise ConfigurationError(f"{name} must begin with {schemes[0]}:// or {schemes[1]}://")
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(f"{name} must not hold a user name or password; give token=")
    return url
