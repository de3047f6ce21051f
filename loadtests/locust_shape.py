"""A shape of `shapes` as Locust asks for it, once a second."""
# mypy: allow-untyped-calls
# Locust has no types.

from locust import LoadTestShape

from loadtests.shapes import Shape, users_at

__all__ = ["FleetShape"]


class FleetShape(LoadTestShape):
    """Over `seconds` from the first tick on."""

    abstract = True  # chosen by our option and not by being the one class in the file
    use_common_options = True

    def __init__(self, shape: Shape, *, most: int, spawn_rate: float, seconds: float) -> None:
        super().__init__()
        self._shape = shape
        self._most = most
        self._spawn_rate = spawn_rate
        self._seconds = seconds

    def tick(self) -> tuple[int, float] | None:
        """How many users there should be now and how fast they come; None at the end."""
        part = self.get_run_time() / self._seconds
        if part >= 1:
            return None
        return users_at(self._shape, self._most, part), self._spawn_rate
