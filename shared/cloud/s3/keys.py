"""Paths as keys and back [pure]."""

from typing import Final

from shared.cloud.errors import BadPath
from shared.cloud.paths import Parts, split_path

__all__ = ["Keys"]

_KEY_MAX_BYTES: Final = 1024


class Keys:
    """Of one root: a bucket, or what begins with `prefix` in it."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = f"{prefix}/" if prefix else ""

    def of(self, path: str) -> str:
        """Of a file. Raises BadPath."""
        key = self.prefix + "/".join(split_path(path))
        if len(key.encode()) > _KEY_MAX_BYTES:
            raise BadPath(f"{path[:100]!r}…: with the prefix longer than the {_KEY_MAX_BYTES} bytes of a key")
        return key

    def folder(self, parts: Parts) -> str:
        """What all keys in a folder begin with."""
        return self.prefix + "".join(f"{part}/" for part in parts)

    def path(self, key: str) -> str | None:
        """Of a listed key, unchecked; None for one outside the root, and for empty objects that stand for folders."""
        if not key.startswith(self.prefix) or key.endswith("/"):
            return None
        return key[len(self.prefix) :]
