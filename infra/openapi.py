"""docs/openapi.json: the document that the API serves with its default settings.

`python -m infra.openapi > docs/openapi.json` writes it (a test compares). Nothing is opened for it: the routes are only
asked what they say of themselves.
"""

import base64
import dataclasses
import json
import sys
from typing import Any

from api.app import Keys, Parts, route_table
from api.openapi import document
from api.resource import Resource
from api.settings import Settings
from shared.settings import load

__all__ = ["published", "resources"]


class _Unopened:
    """Stands where a route keeps what it will use to answer."""

    def __getattr__(self, name: str) -> "_Unopened":
        return self

    def __call__(self, *_: Any, **__: Any) -> "_Unopened":
        return self


def resources() -> list[Resource]:
    """The API's routes, none of which can answer."""
    key = {"kty": "oct", "kid": "none", "alg": "HS256", "k": base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")}
    names = ("FLEETWIRE_TOKEN_KEYS", "FLEETWIRE_TICKET_KEYS", "FLEETWIRE_FILES_KEYS")
    environment = dict.fromkeys(names, json.dumps({"keys": [key]}))
    environment |= {"FLEETWIRE_DATABASE_URL": "postgresql://none", "FLEETWIRE_REDIS_URL": "redis://none"}
    settings = load(Settings, environment)
    parts: dict[str, Any] = {field.name: _Unopened() for field in dataclasses.fields(Parts)}
    parts |= {"settings": settings, "keys": Keys(settings)}
    return list(route_table(Parts(**parts)))


def published() -> dict[str, Any]:
    """The document as JSON values."""
    return document(resources(), page_max=500)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(published(), indent=2, ensure_ascii=False) + "\n")
