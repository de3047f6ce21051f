"""The port to a store that devices upload to by themselves, with a permission that we sign [pure].

The bytes go from the device to the store and never through us. What is to come is reserved in Postgres first, under a
key that no other upload ever gets; the store is then asked what it holds under that key, and only its word counts.
A store takes one content under a key and never replaces it; a repeated upload finds the first. A permission says all it
admits: the key, the size, the hash, and until when.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

__all__ = ["Asset", "Held", "UploadPermit", "UploadStore"]


@dataclass(frozen=True, slots=True)
class Asset:
    """What is to be uploaded, as it was announced. Hashes are lower-case hex digits."""

    object_key: str
    name: str
    content_type: str
    size: int
    sha256: str
    md5: str | None = None
    """For stores that know no better hash."""


@dataclass(frozen=True, slots=True)
class UploadPermit:
    """The one request that the store takes: `headers` as they are, or `fields` of a form that ends with `file`."""

    method: Literal["PUT", "POST"]
    url: str = field(repr=False)
    expires_at: float
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fields: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Held:
    """What a store says it holds under a key. A hash that the store does not know is None."""

    size: int
    sha256: str | None = None
    md5: str | None = None

    def is_(self, asset: Asset) -> bool:
        """Whether it is what was announced: the size and a hash have to agree."""
        if self.size != asset.size:
            return False
        if self.sha256 is not None:
            return self.sha256 == asset.sha256
        return self.md5 is not None and self.md5 == asset.md5


class UploadStore(Protocol):
    """One store. What waits raises StoreUnavailable or Misconfigured, each within a deadline."""

    @property
    def name(self) -> str:
        """As it stands in the rows of what is uploaded there."""
        ...

    @property
    def size_max(self) -> int:
        """The largest content that one request can bring there."""
        ...

    def refusal(self, asset: Asset) -> tuple[str, str] | None:
        """The field for which the store cannot take this, and what to do about it, or None."""
        ...

    def permit(self, asset: Asset, *, now: float) -> UploadPermit:
        """The permission to upload it; `now` is wall-clock seconds. Asks nobody."""
        ...

    def download(self, asset: Asset, *, now: float) -> str:
        """An address from which it can be fetched for a few minutes. Asks nobody."""
        ...

    async def held(self, asset: Asset) -> Held | None:
        """What the store holds under the key, or None."""
        ...

    async def remove(self, asset: Asset) -> None:
        """Take away what it holds under the key, if anything."""
        ...
