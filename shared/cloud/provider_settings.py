"""Which cloud providers are set up, and what goes where; a base class of the settings of every process that asks them.

A provider is set up when its first variable is set; then all that it needs must be. Secrets are kept out of repr().
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from shared.cloud.errors import BadPath
from shared.cloud.paths import split_folder
from shared.settings import bounded_float, path, setting, text
from shared.telemetry.health import is_loopback

__all__ = ["DriveRoot", "GraphDrive", "ProviderSettings"]

_LABEL: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_NAME: Final = re.compile(r"(local|s3|drive|sharepoint|(drive|sharepoint):[a-z0-9][a-z0-9-]{0,31})", re.ASCII)
_BUCKET: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,126}", re.ASCII)
_GOOGLE_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}", re.ASCII)
_GRAPH_ID: Final = re.compile(r"[A-Za-z0-9!_-]{1,256}", re.ASCII)
_TENANT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,253}", re.ASCII)
_ENTRIES_MAX: Final = 32


@dataclass(frozen=True, slots=True)
class DriveRoot:
    """A folder at Google Drive. Without `drive_id` it lies in somebody's own drive."""

    store: str
    folder_id: str
    drive_id: str | None = None


@dataclass(frozen=True, slots=True)
class GraphDrive:
    """A document library or OneDrive, from the folder `root` (empty: all of it) on."""

    store: str
    drive_id: str
    root: str = ""


def _bucket(raw: str) -> str:
    if _BUCKET.fullmatch(raw) is None:
        raise ValueError("not 1 to 127 characters of A-Z a-z 0-9 . _ -")
    return raw


def _folder(raw: str) -> str:
    try:
        return "/".join(split_folder(raw.strip("/")))
    except BadPath as error:
        raise ValueError(str(error)) from None


def _tenant(raw: str) -> str:
    if _TENANT.fullmatch(raw) is None:
        raise ValueError("not a directory id or a domain")
    return raw


def _address(raw: str, *, with_http: bool) -> str:
    try:
        parts = urlsplit(raw)
        port = parts.port
    except ValueError:
        raise ValueError("not an address") from None
    plain = parts.scheme == "http" and (with_http or is_loopback(parts.hostname or ""))
    bare = not (parts.username or parts.password or parts.query or parts.fragment) and port != 0
    if not bare or not parts.hostname or (parts.scheme != "https" and not plain):
        raise ValueError(f"not {'http(s)' if with_http else 'https'}://host, without user or query")
    return raw.rstrip("/")


def _secure(raw: str) -> str:
    """An address that secrets are sent to."""
    return _address(raw, with_http=False)


def _endpoint(raw: str) -> str:
    return _address(raw, with_http=True)


def _entries(raw: str, kind: str) -> dict[str, str]:
    """`label=value,…`, or one value alone; by the store's name."""
    found: dict[str, str] = {}
    for entry in filter(None, (part.strip() for part in raw.split(","))):
        label, equals, value = entry.partition("=")
        if equals and _LABEL.fullmatch(label) is None:
            raise ValueError(f"{label!r} is no label: 1 to 32 of a-z 0-9 -")
        store = f"{kind}:{label}" if equals else kind
        if store in found:
            raise ValueError(f"two are called {store}: give each another label")
        found[store] = value if equals else label
    if not 1 <= len(found) <= _ENTRIES_MAX:
        raise ValueError(f"not 1 to {_ENTRIES_MAX} of label=id, with commas")
    return found


def _drive_roots(raw: str) -> tuple[DriveRoot, ...]:
    roots = []
    for store, value in _entries(raw, "drive").items():
        folder_id, at, drive_id = value.partition("@")
        if _GOOGLE_ID.fullmatch(folder_id) is None or (at and _GOOGLE_ID.fullmatch(drive_id) is None):
            raise ValueError(f"{value!r} is not folderId or folderId@driveId")
        roots.append(DriveRoot(store, folder_id, drive_id or None))
    _check_apart({root.store: root.folder_id for root in roots})
    return tuple(roots)


def _graph_drives(raw: str) -> tuple[GraphDrive, ...]:
    drives = []
    for store, value in _entries(raw, "sharepoint").items():
        drive_id, _, root = value.partition("/")
        if _GRAPH_ID.fullmatch(drive_id) is None:
            raise ValueError(f"{value!r} is not driveId or driveId/folder")
        drives.append(GraphDrive(store, drive_id, _folder(root)))
    _check_apart({one.store: f"{one.drive_id}/{one.root.casefold()}" for one in drives})
    return tuple(drives)


def _check_apart(places: dict[str, str]) -> None:
    """A place under two names would have everything in it processed and announced twice."""
    seen: dict[str, str] = {}
    for store, place in places.items():
        if place in seen:
            raise ValueError(f"{seen[place]} and {store} are the same folder")
        seen[place] = store


def _placement(raw: str) -> tuple[tuple[str, float], ...]:
    weights: dict[str, float] = {}
    for entry in filter(None, (part.strip() for part in raw.split(","))):
        store, _, weight = entry.partition("=")
        if _NAME.fullmatch(store) is None or store in weights:
            raise ValueError(f"{store!r} is no store, or is there twice: sharepoint=70,drive=20,local=10")
        weights[store] = bounded_float(0, 1_000_000)(weight)
    if not sum(weights.values()) > 0:
        raise ValueError("no store has a weight above 0: sharepoint=70,drive=20,local=10")
    return tuple(weights.items())


@dataclass(frozen=True, kw_only=True)
class ProviderSettings:
    """Names of fields begin with `cloud_`; a process may have photos in another bucket of its own."""

    cloud_s3_bucket: str | None = setting("FLEETWIRE_S3_BUCKET", None, help="Bucket of a cloud folder.", parse=_bucket)
    cloud_s3_region: str = setting("FLEETWIRE_S3_REGION", "us-east-1", help="Its region.", parse=_bucket)
    cloud_s3_endpoint: str | None = setting(
        "FLEETWIRE_S3_ENDPOINT",
        None,
        help="S3 of somebody else: http(s)://host:port, with the bucket in the path; default: AWS.",
        parse=_endpoint,
    )
    cloud_s3_prefix: str = setting(
        "FLEETWIRE_S3_PREFIX", "", help="What every key begins with, without the last slash.", parse=_folder
    )
    cloud_s3_key_id: str | None = setting("FLEETWIRE_S3_KEY_ID", None, help="Access key.", parse=text(max_length=256))
    cloud_s3_secret: str | None = setting(
        "FLEETWIRE_S3_SECRET", None, help="Its secret.", parse=text(max_length=256), secret=True
    )
    cloud_drive_key_file: Path | None = setting(
        "FLEETWIRE_DRIVE_KEY_FILE", None, help="Key of a Google service account, a JSON file.", parse=path
    )
    cloud_drive_roots: tuple[DriveRoot, ...] = setting(
        "FLEETWIRE_DRIVE_ROOTS",
        (),
        help="Folders at Google Drive: label=folderId@driveId, with commas; without @driveId in a user's own drive.",
        parse=_drive_roots,
    )
    cloud_drive_url: str = setting(
        "FLEETWIRE_DRIVE_URL", "https://www.googleapis.com", help="Where Google's API is.", parse=_secure
    )
    cloud_graph_tenant: str | None = setting(
        "FLEETWIRE_GRAPH_TENANT", None, help="Directory (tenant) id of the application at Entra.", parse=_tenant
    )
    cloud_graph_client_id: str | None = setting(
        "FLEETWIRE_GRAPH_CLIENT_ID", None, help="Application (client) id.", parse=text(max_length=128)
    )
    cloud_graph_client_secret: str | None = setting(
        "FLEETWIRE_GRAPH_CLIENT_SECRET",
        None,
        help="A secret of the application; or a certificate.",
        parse=text(max_length=512),
        secret=True,
    )
    cloud_graph_certificate_file: Path | None = setting(
        "FLEETWIRE_GRAPH_CERTIFICATE_FILE",
        None,
        help="Certificate of the application and its private key in one PEM file.",
        parse=path,
    )
    cloud_graph_drives: tuple[GraphDrive, ...] = setting(
        "FLEETWIRE_GRAPH_DRIVES",
        (),
        help="Document libraries at SharePoint, or OneDrives: label=driveId/folder, with commas.",
        parse=_graph_drives,
    )
    cloud_graph_url: str = setting(
        "FLEETWIRE_GRAPH_URL", "https://graph.microsoft.com", help="Where Microsoft Graph is.", parse=_secure
    )
    cloud_graph_login_url: str = setting(
        "FLEETWIRE_GRAPH_LOGIN_URL",
        "https://login.microsoftonline.com",
        help="Where its tokens are given out.",
        parse=_secure,
    )
    cloud_graph_units: float = setting(
        "FLEETWIRE_GRAPH_UNITS",
        1200.0,
        help="Resource units a minute that Graph gives the application in its tenant; all processes share them.",
        parse=bounded_float(60, 1_000_000),
    )
    cloud_placement: tuple[tuple[str, float], ...] = setting(
        "FLEETWIRE_CLOUD_PLACEMENT",
        (("local", 1.0),),
        help="Where responses are put, by weight: sharepoint=70,drive=20,local=10.",
        parse=_placement,
    )
    cloud_hooks_url: str | None = setting(
        "FLEETWIRE_HOOKS_URL",
        None,
        help="Public https address of the API, which providers call when something changed; without it, only polls.",
        parse=_secure,
    )
    cloud_request_s: float = setting(
        "FLEETWIRE_CLOUD_REQUEST_S",
        30.0,
        help="Seconds that a cloud provider may take to answer one request.",
        parse=bounded_float(0.05, 600),
    )

    @property
    def cloud_stores(self) -> tuple[str, ...]:
        """The names of the stores that are set up, but the local one."""
        names = ["s3"] if self.cloud_s3_bucket else []
        return (
            *names,
            *(root.store for root in self.cloud_drive_roots),
            *(one.store for one in self.cloud_graph_drives),
        )

    def provider_problems(self, *, has_local: bool = True) -> list[str]:
        """What is missing for the providers that are set up."""
        problems = []
        for needed in (_S3, _DRIVE, _GRAPH):
            missing = [variable for name, variable in needed.items() if not getattr(self, name)]
            if 0 < len(missing) < len(needed):
                there = next(variable for variable in needed.values() if variable not in missing)
                problems.append(f"{' and '.join(missing)} not set, though {there} is")
        if self.cloud_graph_tenant:
            secrets = [self.cloud_graph_client_secret, self.cloud_graph_certificate_file]
            if secrets.count(None) != 1:
                problems.append("set one of FLEETWIRE_GRAPH_CLIENT_SECRET and FLEETWIRE_GRAPH_CERTIFICATE_FILE")
        known = {*self.cloud_stores, *(("local",) if has_local else ())}
        if has_local and (strange := [store for store, _ in self.cloud_placement if store not in known]):
            there = ", ".join(sorted(known))
            problems.append(f"FLEETWIRE_CLOUD_PLACEMENT is wrong: {', '.join(strange)} not set up; there is {there}")
        return problems


_S3: Final = {
    "cloud_s3_bucket": "FLEETWIRE_S3_BUCKET",
    "cloud_s3_key_id": "FLEETWIRE_S3_KEY_ID",
    "cloud_s3_secret": "FLEETWIRE_S3_SECRET",
}
_DRIVE: Final = {"cloud_drive_roots": "FLEETWIRE_DRIVE_ROOTS", "cloud_drive_key_file": "FLEETWIRE_DRIVE_KEY_FILE"}
_GRAPH: Final = {
    "cloud_graph_tenant": "FLEETWIRE_GRAPH_TENANT",
    "cloud_graph_client_id": "FLEETWIRE_GRAPH_CLIENT_ID",
    "cloud_graph_drives": "FLEETWIRE_GRAPH_DRIVES",
}
