"""Whose requests metrics tell apart: the classes of devices that have a rate of their own, and the kinds of others.

The class in a token is the word of whoever signed it; only those that are set up become labels, so that no token can
make time series.
"""

from collections.abc import Collection

from shared.tokens import Claims

__all__ = ["NOBODY", "client_of"]

NOBODY = "nobody"


def client_of(claims: Claims, classes: Collection[str]) -> str:
    """The `client` of the API's metrics."""
    kind = claims.principal.partition(":")[0]
    if kind == "device" and claims.device_class in classes:
        return claims.device_class or kind
    return kind
