"""Whose word counts about where a connection comes from.

A proxy in front of hubs writes the address it was reached from at the end of `X-Forwarded-For`; what stands before that
is anybody's invention. So the list is read from the right, past the proxies that are trusted, to the first address that
is not one of them. With no proxy trusted, and that is the default, the other end of the connection is the client.
"""

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

__all__ = ["TrustedProxies", "address_key"]

HOPS_MAX: Final = 32
NETWORKS_MAX: Final = 256
_V6_PREFIX: Final = 64

Address = IPv4Address | IPv6Address


def _address(text: str) -> Address | None:
    """The address of one hop, with or without a port."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        # A zone names an interface of the machine that wrote it.
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def address_key(peer: str) -> str:
    """What limits count by: an IPv4 address, or the /64 of an IPv6 one, since one subscriber has all of that.

    Empty when it is unknown.
    """
    found = _address(peer)
    if found is None:
        return ""
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _V6_PREFIX), strict=False))
    return str(found)


class TrustedProxies:
    """Networks whose `X-Forwarded-For` is believed."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network] = ()) -> None:
        self._networks = tuple(networks)

    @classmethod
    def parse(cls, text: str) -> "TrustedProxies":
        """Networks or addresses, separated by commas. Raises ValueError naming the one to mend."""
        networks = []
        for part in text.split(","):
            if not part.strip():
                continue
            try:
                networks.append(ip_network(part.strip()))
            except ValueError as error:
                raise ValueError(f"{part.strip()!r} is no network such as 10.0.0.0/8: {error}") from None
        if len(networks) > NETWORKS_MAX:
            raise ValueError(f"more than {NETWORKS_MAX} networks")
        return cls(networks)

    def __repr__(self) -> str:
        return f"TrustedProxies({', '.join(map(str, self._networks)) or 'none'})"

    def __bool__(self) -> bool:
        return bool(self._networks)

    def trusts(self, peer: str) -> bool:
        """Whether the other end of a connection is one of the proxies."""
        if not self._networks:
            return False
        found = _address(peer)
        return found is not None and self._has(found)

    def client(self, peer: str, forwarded: Sequence[str]) -> str:
        """Who connects, as limits count; `forwarded` are the values of all `X-Forwarded-For` headers, in order."""
        nearest = peer
        hops = [hop for value in forwarded for hop in value.split(",")]
        for hop in reversed(hops[-HOPS_MAX:]):
            if not self.trusts(nearest):
                break
            if _address(hop) is None:
                break  # the proxy passed on what is no address: it stands for whoever it serves
            nearest = hop
        return address_key(nearest)

    def _has(self, address: Address) -> bool:
        return any(network.version == address.version and address in network for network in self._networks)
