"""Addresses that admit one request for one file, for a few minutes [pure].

The API signs, the files gateway verifies; both hold the same secrets, and the gateway asks nobody. An address:

    http://files:8090/v1/files/Responses/truck-7/load.0190…/thumb.jpg
        ?key=2026a&expires=1795334400&size=48213&sha256=9f86…&type=image%2Fjpeg&name=thumb.jpg&signature=…

The signature is an HMAC-SHA256 over the method, the host, the raw path and every raw parameter, each preceded by its
length, so that no byte can move from one field into the next. It is checked on the bytes as they came; only then is
anything decoded. There is one spelling of an address: parameters in this order, each once. Whatever differs in any byte
is refused. To rotate, add a secret at the end of the set (the last one signs), drop the old one five minutes later.

An address for GET admits HEAD as well; one for DELETE is only ever used by the API itself. A file in a store that gives
no addresses out is fetched through the gateway as well, by `/v1/stores/<store>/<id of the object, or ->/<path>`.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import quote, unquote_to_bytes, urlsplit

__all__ = [
    "LIFETIME_MAX_S",
    "LOCAL",
    "PATH_PREFIX",
    "PATH_PREFIXES",
    "Grant",
    "InvalidSignedUrl",
    "Refused",
    "SignedUrls",
    "host_of",
    "verify",
]

LIFETIME_MAX_S: Final = 300
LOCAL: Final = "local"
PATH_PREFIX: Final = "/v1/files/"
STORES_PREFIX: Final = "/v1/stores/"
PATH_PREFIXES: Final = (PATH_PREFIX.encode(), STORES_PREFIX.encode())

_CLOCK_SKEW_S: Final = 5
_VERSION: Final = b"fleetwire file 1"
_FIELDS: Final = (b"key", b"expires", b"size", b"sha256", b"type", b"name")
_RAW_MAX_BYTES: Final = 8192
_STORE: Final = re.compile(r"[a-z0-9][a-z0-9:-]{0,63}", re.ASCII)
_NO_OBJECT_ID: Final = "-"
_SHA256: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)
# A media type as RFC 9110 (section 8.3.1) has it, parameters without quotes: safe in a header as it is.
_MEDIA_TYPE: Final = re.compile(
    r"[\w!#$&^.+-]{1,64}/[\w!#$&^.+-]{1,64}(?:; ?[\w!#$&^.+-]{1,32}=[\w!#$&^.+-]{1,64}){0,4}", re.ASCII
)

Method = Literal["GET", "PUT", "DELETE"]
_SIGNED: Final[Mapping[str, Method]] = {"GET": "GET", "HEAD": "GET", "PUT": "PUT", "DELETE": "DELETE"}

Refused = Literal["malformed", "unknown_key", "bad_signature", "expired", "lives_too_long"]


class InvalidSignedUrl(ValueError):
    """An address that admits nothing. `reason` is for counters, `str()` for the sender; neither holds a secret."""

    def __init__(self, reason: Refused, detail: str) -> None:
        super().__init__(detail)
        self.reason: Refused = reason


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified address admits: this method, on this path of the store, for exactly this content."""

    method: Method
    path: str
    size: int
    sha256: str
    content_type: str
    """For the answer to a GET; application/octet-stream when none was signed."""
    name: str
    """What a GET offers to save the file as."""
    expires_at: int
    key_id: str
    store: str = LOCAL
    object_id: str | None = None
    """The store's own name of the file, where it has one."""


class SignedUrls:
    """Makes addresses below `base_url` (scheme, host and port only)."""

    def __init__(self, keys: Mapping[str, bytes], base_url: str) -> None:
        """`keys` are secrets by key id, in the order of their set; the last one that it then holds signs.

        Raises ValueError saying what is wrong.
        """
        if not keys:
            raise ValueError("there is no key to sign file addresses with")
        self._host = host_of(base_url)
        self._base = base_url.rstrip("/")
        self._keys = keys

    def __repr__(self) -> str:
        return f"SignedUrls({self._base}, signs with {list(self._keys)[-1]})"

    def sign(
        self,
        method: Method,
        path: str,
        *,
        size: int,
        sha256: str,
        now: float,
        lifetime_s: float,
        content_type: str = "",
        name: str = "",
        store: str = LOCAL,
        object_id: str | None = None,
    ) -> str:
        """The address that admits `method` on `path` until `now + lifetime_s`. Another store than the local one is only
        read from.

        A PUT is admitted for exactly this size and hash. `content_type` and `name` are what a GET answers with; a
        content type that would not be safe in a header is dropped. Raises ValueError.
        """
        if not 1 <= lifetime_s <= LIFETIME_MAX_S:
            raise ValueError(f"a signed address lives for 1 to {LIFETIME_MAX_S} s, not {lifetime_s:g}")
        if size < 0 or _SHA256.fullmatch(sha256) is None:
            raise ValueError("size must not be negative and sha256 must be 64 lower-case hex digits")
        key_id = list(self._keys)[-1]
        values = {
            "key": key_id,
            "expires": str(int(now + lifetime_s)),
            "size": str(size),
            "sha256": sha256,
            "type": content_type if _MEDIA_TYPE.fullmatch(content_type) else "",
            "name": name or path.rsplit("/", 1)[-1],
        }
        raw_path = _raw_path(method, path, store, object_id)
        raw_values = [quote(value, safe="").encode() for value in values.values()]
        signature = _signature(self._keys[key_id], method.encode(), self._host, raw_path, raw_values)
        query = b"&".join(b"%s=%s" % pair for pair in zip(_FIELDS, raw_values, strict=True))
        if len(raw_path) + len(query) > _RAW_MAX_BYTES:
            raise ValueError("the path is too long for an address")
        return f"{self._base}{raw_path.decode()}?{query.decode()}&signature={signature.decode()}"


def verify(
    keys: Mapping[str, bytes], method: str, host: bytes, raw_path: bytes, raw_query: bytes, *, now: float
) -> Grant:
    """What the request is admitted to. All bytes are as they came; `host` is the Host header. Raises InvalidSignedUrl.

    An address for GET admits HEAD too. The path is decoded but not checked: the store checks it.
    """
    if len(raw_path) + len(raw_query) > _RAW_MAX_BYTES + 128 or not raw_path.startswith(PATH_PREFIXES):
        raise InvalidSignedUrl("malformed", "this is not the address of a file")
    raw_values, signature = _split(raw_query)
    key_id = _text(raw_values[0])
    key = keys.get(key_id)
    if key is None:
        raise InvalidSignedUrl("unknown_key", "the address names no key that is accepted here; ask for a fresh one")
    signed_method = _SIGNED.get(method)
    if signed_method is None or not hmac.compare_digest(
        signature, _signature(key, signed_method.encode(), host, raw_path, raw_values)
    ):
        raise InvalidSignedUrl(
            "bad_signature", "the signature does not hold for this method, host, path and parameters"
        )
    return _grant(signed_method, raw_path, raw_values, key_id, now)


def host_of(base_url: str) -> bytes:
    """The Host header that clients send for this base address. Raises ValueError when it is no plain base address."""
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None:
        raise ValueError("the files address must be http://host:port or https://host:port")
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError("the files address must have no path, query or fragment")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    if parts.port is not None and (parts.scheme, parts.port) not in (("http", 80), ("https", 443)):
        host = f"{host}:{parts.port}"
    return host.encode("ascii")


def _signature(key: bytes, method: bytes, host: bytes, raw_path: bytes, raw_values: list[bytes]) -> bytes:
    signed = b"".join(
        len(field).to_bytes(4, "big") + field for field in (_VERSION, method, host, raw_path, *raw_values)
    )
    return base64.urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=")


def _split(raw_query: bytes) -> tuple[list[bytes], bytes]:
    pairs = [pair.partition(b"=") for pair in raw_query.split(b"&")]
    if [name for name, _, _ in pairs] != [*_FIELDS, b"signature"] or not all(equals for _, equals, _ in pairs):
        raise InvalidSignedUrl("malformed", "the parameters are not those of a signed address, in its order, each once")
    values = [value for _, _, value in pairs]
    return values[:-1], values[-1]


def _grant(method: Method, raw_path: bytes, raw_values: list[bytes], key_id: str, now: float) -> Grant:
    _, expires, size, sha256, content_type, name = (_text(value) for value in raw_values)
    if not (_NUMBER.fullmatch(expires) and _NUMBER.fullmatch(size) and _SHA256.fullmatch(sha256)):
        raise InvalidSignedUrl("malformed", "expires, size or sha256 is malformed")
    if now >= int(expires):
        raise InvalidSignedUrl("expired", "the address has expired; ask for a fresh one")
    if int(expires) > now + LIFETIME_MAX_S + _CLOCK_SKEW_S:
        raise InvalidSignedUrl("lives_too_long", f"an address may live for at most {LIFETIME_MAX_S} s")
    if content_type and _MEDIA_TYPE.fullmatch(content_type) is None:
        raise InvalidSignedUrl("malformed", "type is no media type")
    store, object_id, path = _place(raw_path)
    if store != LOCAL and method != "GET":
        raise InvalidSignedUrl("malformed", "that store is only read from")
    return Grant(
        method=method,
        path=path,
        size=int(size),
        sha256=sha256,
        content_type=content_type or "application/octet-stream",
        name=name,
        expires_at=int(expires),
        key_id=key_id,
        store=store,
        object_id=object_id,
    )


def _raw_path(method: Method, path: str, store: str, object_id: str | None) -> bytes:
    if store == LOCAL:
        return (PATH_PREFIX + quote(path, safe="/")).encode()
    if method != "GET" or _STORE.fullmatch(store) is None:
        raise ValueError(f"{store!r} is no store that is read from by an address")
    place = "/".join((quote(store, safe=":"), quote(object_id or _NO_OBJECT_ID, safe=""), quote(path, safe="/")))
    return (STORES_PREFIX + place).encode()


def _place(raw_path: bytes) -> tuple[str, str | None, str]:
    """(store, object id, path) that a path of an address names."""
    if raw_path.startswith(PATH_PREFIX.encode()):
        return LOCAL, None, _text(raw_path[len(PATH_PREFIX) :])
    store, _, rest = raw_path[len(STORES_PREFIX) :].partition(b"/")
    object_id, slash, path = rest.partition(b"/")
    name = _text(store)
    if not slash or not object_id or name == LOCAL or _STORE.fullmatch(name) is None:
        raise InvalidSignedUrl("malformed", "this is not the address of a file in a store")
    known = _text(object_id)
    return name, None if known == _NO_OBJECT_ID else known, _text(path)


def _text(raw: bytes) -> str:
    try:
        return unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        raise InvalidSignedUrl("malformed", "the address is not UTF-8 under its percent-encoding") from None
