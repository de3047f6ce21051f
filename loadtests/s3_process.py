"""An S3 in a process of its own (s3_server.py), as tests and load runs order things from it."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Final

import httpx

from loadtests.emulators.faults import Fault
from loadtests.process import start_python
from shared.cloud.s3.bucket import Bucket
from shared.cloud.sigv4 import Credentials

__all__ = ["KEY", "S3Server", "running_s3"]

KEY: Final = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


@dataclass(frozen=True)
class S3Server:
    """A server of its own process."""

    url: str

    @property
    def bucket(self) -> Bucket:
        """The one that is there."""
        return Bucket("depot", "us-east-1", self.url)

    def order(self, *faults: Fault) -> None:
        """Instead of all that was ordered before."""
        httpx.post(f"{self.url}/_faults", json=[asdict(one) for one in faults], trust_env=False).raise_for_status()

    def calls(self) -> dict[str, int]:
        """How often each was made since the last time."""
        found: dict[str, int] = httpx.get(f"{self.url}/_calls", trust_env=False).json()
        httpx.delete(f"{self.url}/_calls", trust_env=False)
        return found


@contextmanager
def running_s3() -> Iterator[S3Server]:
    """It takes nothing but requests signed with KEY, and is empty but for the bucket."""
    process = start_python("loadtests.s3_server", log=subprocess.DEVNULL)  # type: ignore[arg-type]
    try:
        assert process.stdout is not None
        yield S3Server(json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.communicate()
