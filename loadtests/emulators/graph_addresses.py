"""The addresses of an emulated Graph: which call, drive and item a request is about."""

import re
from typing import Final, NamedTuple

from starlette.types import Scope

__all__ = ["Address", "address_of"]

_DRIVE_PATH: Final = re.compile(
    r"/v1\.0/(?:drives/(?P<drive>[^/:]+)|(?:me|(?:sites|users|groups)/[^/]+)/drive)(?P<rest>/.*)?"
)
_ITEM_PATH: Final = re.compile(r"/(?:items/(?P<id>[^/:]+)|root)(?P<path>:(?:/[^:]*)?)?(?P<mark>:)?(?:/(?P<action>.+))?")
_DELTA: Final = re.compile(r"(?:microsoft\.graph\.)?delta(?:\((?:token='(?P<token>[^']*)')?\))?")


class Address(NamedTuple):
    """What a request is about."""

    call: str
    drive: str | None = None
    item: str = "root"
    path: str = ""
    token: str | None = None


def address_of(scope: Scope) -> Address:
    """What a request is about; its call is `unknown` when it is about nothing."""
    path, method = str(scope["path"]), str(scope["method"])
    if path == "/control":
        return Address("control")
    if path.endswith("/oauth2/v2.0/token"):
        return Address("token")
    if path.startswith("/download/"):
        return Address("download")
    if path.startswith("/upload/"):
        asked = {"PUT": "upload.put", "GET": "upload.status", "DELETE": "upload.cancel", "POST": "upload.commit"}
        return Address(asked.get(method, "unknown"), item=path.removeprefix("/upload/"))
    if path.startswith("/v1.0/subscriptions"):
        key = path.removeprefix("/v1.0/subscriptions").strip("/")
        if not key:
            return Address({"GET": "subscription.list", "POST": "subscription.create"}.get(method, "unknown"))
        if key.endswith("/reauthorize"):
            return Address("subscription.reauthorize", item=key.removesuffix("/reauthorize"))
        calls = {"GET": "subscription.get", "PATCH": "subscription.renew", "DELETE": "subscription.delete"}
        return Address(calls.get(method, "unknown"), item=key)
    if (found := _DRIVE_PATH.fullmatch(path)) is None:
        return Address("unknown")
    drive, rest = found["drive"], found["rest"]
    if not rest:
        return Address("drive" if method == "GET" else "unknown", drive)
    if (item := _ITEM_PATH.fullmatch(rest)) is None:
        return Address("unknown", drive)
    below = (item["path"] or "").removeprefix(":").strip("/")
    action = item["action"] or ""
    token = None
    if (delta := _DELTA.fullmatch(action)) is not None:
        token, action = delta["token"], "delta"
    known = {
        ("GET", "delta"): "delta",
        ("GET", "children"): "children",
        ("POST", "children"): "folder.create",
        ("GET", "content"): "content.get",
        ("PUT", "content"): "content.put",
        ("POST", "createUploadSession"): "upload.begin",
        ("GET", ""): "item",
        ("PATCH", ""): "item.patch",
        ("DELETE", ""): "item.delete",
    }
    call = known.get((method, action.removeprefix("microsoft.graph.")), "unknown")
    return Address(call, drive, item["id"] or "root", below, token)
