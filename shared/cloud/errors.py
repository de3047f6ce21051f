"""What can go wrong with a cloud store. The tree:

CloudError
├── BadPath              the path is not a legal path inside a store
├── NotFound             nothing is there
├── NotAFile             something is there, but no regular file: a folder, a link, a pipe, a device
├── ContentMismatch      the bytes that came are not the ones that were announced
├── ContentChanged       the file changed while it was read
├── NameTaken            something has the name already; nothing was replaced
├── CursorExpired        the provider forgot the cursor: only a run over everything helps
├── Misconfigured        the store cannot work as it is set up; no retry helps
└── StoreUnavailable     the store did not do it; trying again later may help
    ├── RateLimited      it was asked too much; `retry_after_s` says when to come back
    ├── StoreFull        no space is left
    └── StoreBusy        too many calls wait for it in this process

Foreign errors become these where they are raised: `from_os_error` is the table for files. That a file exists already
is not an error but an answer (`store.Existed`).
"""

import errno
from typing import Final


class CloudError(Exception):
    """The cloud store refused."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail or type(self).__doc__)


class BadPath(CloudError, ValueError):
    """The path is not a legal path inside a store."""


class NotFound(CloudError):
    """Nothing is there."""


class NotAFile(CloudError):
    """What is there is no regular file."""


class ContentMismatch(CloudError):
    """The bytes that came are not the ones that were announced."""


class ContentChanged(CloudError):
    """The file changed while it was read."""


class NameTaken(CloudError):
    """Something has the name already."""


class CursorExpired(CloudError):
    """The provider forgot the cursor. `restart` is where it wants the run over everything to begin, if it said."""

    def __init__(self, detail: str | None = None, *, restart: str | None = None) -> None:
        super().__init__(detail)
        self.restart = restart


class Misconfigured(CloudError):
    """The store cannot work as it is set up."""


class StoreUnavailable(CloudError):
    """The store did not answer as it should; try again later."""


class RateLimited(StoreUnavailable):
    """The store was asked too much; every call to it waits for `retry_after_s`."""

    def __init__(self, detail: str | None = None, *, retry_after_s: float) -> None:
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class StoreFull(StoreUnavailable):
    """No space is left in the store."""


class StoreBusy(StoreUnavailable):
    """Too many calls wait for the store in this process."""


_BY_ERRNO: Final[dict[int, type[CloudError]]] = {
    errno.ENOENT: NotFound,
    errno.ENOTDIR: NotFound,
    errno.ELOOP: NotAFile,
    errno.EISDIR: NotAFile,
    errno.ENXIO: NotAFile,
    errno.ENODEV: NotAFile,
    errno.EINVAL: BadPath,
    errno.ENAMETOOLONG: BadPath,
    errno.ENOSPC: StoreFull,
    errno.EDQUOT: StoreFull,
    errno.EXDEV: Misconfigured,
    errno.EEXIST: NameTaken,
}


def from_os_error(error: OSError, path: str) -> CloudError:
    """The error of this tree for one of the operating system's; `path` is the path inside the store."""
    kind = _BY_ERRNO.get(error.errno or 0, StoreUnavailable)
    hint = (
        "; set FLEETWIRE_CLOUD_TMP to a folder on the file system of the cloud folder" if kind is Misconfigured else ""
    )
    return kind(f"{path!r}: {error.strerror or error}{hint}")
