"""Where a hub's socket is: at the hub itself, or at a proxy that is told the hub's name.

One function for the API, which assigns, and for hubs, which send devices on, so that the two never differ.
"""

from urllib.parse import quote

__all__ = ["socket_url"]


def socket_url(name: str, url: str, proxy_url: str | None) -> str:
    """The address of the device socket of the hub `name` at `url`. A proxy honours `hub=` while that hub is up."""
    if proxy_url is None:
        return f"{url.rstrip('/')}/v1/socket"
    return f"{proxy_url.rstrip('/')}/v1/socket?hub={quote(name, safe='')}"
