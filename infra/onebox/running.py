"""Where the running set-up is: written by `fleetwire up` when all is ready, read by the other commands of this home.

The file holds addresses with passwords, so only its owner reads it. It is removed at the end; after a kill -9 it is
left, and then says an address where nobody listens, which the reader finds out by asking.
"""

import json
from dataclasses import asdict, dataclass

from infra.onebox.home import Home, put_private

__all__ = ["Running"]


@dataclass(frozen=True)
class Running:
    """Addresses of the set-up that runs in a home."""

    pid: int
    api: str
    hubs: list[str]
    files: str
    cloud: str
    database_url: str
    redis_url: str
    token_keys_file: str | None
    ops: dict[str, int]

    def ready_line(self) -> str:
        """What `fleetwire up` prints for programs: one JSON line without secrets."""
        return json.dumps(
            {
                "ready": True,
                "api": self.api,
                "hubs": self.hubs,
                "cloud": self.cloud,
                "files": self.files,
                "pid": self.pid,
            },
            separators=(",", ":"),
        )

    def write(self, home: Home) -> None:
        """Put the file in place, whole."""
        put_private(home.run / "up.json", json.dumps(asdict(self)).encode(), replace=True)

    @staticmethod
    def remove(home: Home) -> None:
        """Nothing runs here any more."""
        (home.run / "up.json").unlink(missing_ok=True)

    @classmethod
    def read(cls, home: Home) -> "Running | None":
        """What runs here, if anything said so."""
        try:
            return cls(**json.loads((home.run / "up.json").read_bytes()))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, TypeError):
            return None
