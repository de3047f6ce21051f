"""What a load run publishes: events due at a rate, to the devices in turn, and what became of each. Pure.

One request is under way at a time and the API numbers its items as they stand in it, so the order of publishing is the
order of the log; the positions in the answers hold the API to that. An item whose request was repeated has no position
of its own (`duplicate`): it was recorded by a try whose answer was lost.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from loadtests.driver.history import History
from shared.protocol.position import InvalidPosition, Position, parse_position

__all__ = ["BATCH_MAX", "Publications", "PublishRefused", "read_answer"]

BATCH_MAX: Final = 500


class PublishRefused(RuntimeError):
    """The API did not record what it was given; the message says what it answered."""


def read_answer(status: int, text: str) -> list[dict[str, Any]] | None:
    """The results in an answer of the API; None when the request is worth repeating. Raises PublishRefused."""
    if status == 200:
        results: list[dict[str, Any]] = json.loads(text)["results"]
        return results
    if 400 <= status < 500 and status != 429:
        raise PublishRefused(f"HTTP {status}: {text[:300]}")
    return None


class Publications:
    """Events at `rate` per second from the first `due()` on. `run` makes their ids unique."""

    def __init__(self, history: History, *, run: str, rate: float) -> None:
        self._history = history
        self._run = run
        self._rate = rate
        self._start: float | None = None
        self._made = 0
        self._last: dict[str, Position] = {}
        self.recorded = 0
        self.repeated_requests = 0
        self.late_s = 0.0  # the longest that an event waited for the answer to the request before its own

    def due(self, devices: Sequence[str], *, now: float, sent_ns: int) -> list[dict[str, Any]]:
        """The items to publish now, at most what one request may hold."""
        if not devices:
            return []
        if self._start is None:
            self._start = now
        count = min(int((now - self._start) * self._rate) - self._made, BATCH_MAX)
        if count < 1:
            return []
        self.late_s = max(self.late_s, now - self._start - (self._made + 1) / self._rate)
        numbers = range(self._made, self._made + count)
        self._made += count
        return [
            {
                "device_id": devices[number % len(devices)],
                "type": "LoadTest",
                "id": f"{self._run}-{number}",
                "data": {"sent_ns": sent_ns},
            }
            for number in numbers
        ]

    def answered(self, batch: Sequence[Mapping[str, Any]], results: Sequence[Mapping[str, Any]]) -> None:
        """The API's results for one batch, in its order. Raises PublishRefused."""
        if len(results) != len(batch):
            raise PublishRefused(f"{len(batch)} items were published and {len(results)} results came back")
        for item, result in zip(batch, results, strict=True):
            device_id = str(item["device_id"])
            match result.get("status"):
                case "recorded":
                    self._check_order(device_id, result.get("position"))
                case "duplicate" if self.repeated_requests:
                    pass
                case _:
                    raise PublishRefused(f"{device_id}/{item['id']} was not recorded: {result}")
            self._history.recorded(device_id, [str(item["id"])])
            self.recorded += 1

    def _check_order(self, device_id: str, text: object) -> None:
        try:
            position = parse_position(str(text))
        except InvalidPosition:
            raise PublishRefused(f"{device_id}: recorded at no position: {text!r}") from None
        last = self._last.get(device_id)
        if last is not None and position <= last:
            raise PublishRefused(f"{device_id}: recorded at {position}, after {last} was given out")
        self._last[device_id] = position
