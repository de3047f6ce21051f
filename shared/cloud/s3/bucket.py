"""Where a bucket is [pure]."""

from dataclasses import dataclass

__all__ = ["Bucket"]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket: at AWS by its own host name, at any other endpoint as the first part of the path.

    A certificate for `*.s3.…` covers no name with a dot, so such a bucket is the first part of the path at AWS too.
    """

    name: str
    region: str
    endpoint: str | None = None

    @property
    def url(self) -> str:
        """What keys are appended to."""
        if self.endpoint is not None:
            return f"{self.endpoint}/{self.name}/"
        host = f"s3.{self.region}.amazonaws.com"
        return f"https://{host}/{self.name}/" if "." in self.name else f"https://{self.name}.{host}/"
