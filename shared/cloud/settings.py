"""Where the local cloud folder is; a base class of the settings of every process that opens it."""

from dataclasses import dataclass
from pathlib import Path

from shared.cloud.local_provider import LocalProvider
from shared.settings import bounded_float, bounded_int, path, setting


@dataclass(frozen=True, kw_only=True)
class CloudSettings:
    """The folder that is watched, and beside it one for drafts."""

    cloud_root: Path = setting(
        "FLEETWIRE_CLOUD_ROOT", help="The local cloud folder, with Requests/ and Responses/ in it.", parse=path
    )
    cloud_tmp: Path | None = setting(
        "FLEETWIRE_CLOUD_TMP",
        None,
        help="Folder for drafts, on the same mount as the cloud folder, outside it; default: cloud-tmp beside it.",
        parse=path,
    )
    cloud_threads: int = setting(
        "FLEETWIRE_CLOUD_THREADS", 4, help="Threads that wait for the disk.", parse=bounded_int(1, 64)
    )
    cloud_deadline_s: float = setting(
        "FLEETWIRE_CLOUD_DEADLINE_S",
        30.0,
        help="Seconds that one read or write of a piece may take.",
        parse=bounded_float(0.1, 600),
    )

    @property
    def cloud_drafts(self) -> Path:
        """The folder for drafts."""
        return self.cloud_tmp or drafts_beside(self.cloud_root)

    def open_local_store(self) -> LocalProvider:
        """The store. Raises Misconfigured."""
        return LocalProvider(
            self.cloud_root, self.cloud_drafts, threads=self.cloud_threads, deadline_s=self.cloud_deadline_s
        )


def drafts_beside(root: Path) -> Path:
    """Where drafts of a cloud folder are, when nothing else is said."""
    return root.parent / "cloud-tmp"
