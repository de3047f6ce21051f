"""The judge of every load and fault run: what was recorded against what each device was shown.

Pure, and independent of the code under test: it knows ids and numbers, nothing of hubs or logs. A run passes when, for
every device, what the application was shown is exactly what was recorded, each once, in the order of the log.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["History", "Verdict"]


@dataclass(frozen=True)
class Verdict:
    """Counts over all devices, and a few examples of each fault for whoever has to find it."""

    recorded: int
    shown: int
    lost: int
    repeated: int
    out_of_order: int
    unexpected: int
    examples: Mapping[str, Sequence[str]] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Nothing lost, repeated, out of order or out of nowhere."""
        return not (self.lost or self.repeated or self.out_of_order or self.unexpected)

    def __str__(self) -> str:
        counts = f"{self.lost} lost, {self.repeated} repeated, {self.out_of_order} out of order"
        more = f", {self.unexpected} unexpected" if self.unexpected else ""
        shown = "".join(f"\n  {kind}: {', '.join(few)}" for kind, few in self.examples.items() if few)
        return f"{self.shown:,} of {self.recorded:,} events shown: {counts}{more}{shown}"


class History:
    """What happened in one run. `recorded` in the order of the log, `shown` in the order of the application."""

    def __init__(self) -> None:
        self._recorded: dict[str, list[str]] = defaultdict(list)
        self._shown: dict[str, list[str]] = defaultdict(list)

    def recorded(self, device_id: str, event_ids: Iterable[str]) -> None:
        """These events are in the device's log, after the ones said before."""
        self._recorded[device_id].extend(event_ids)

    def shown(self, device_id: str, event_id: str) -> None:
        """The application of this device was given this event."""
        self._shown[device_id].append(event_id)

    def judge(self) -> Verdict:
        """Compare the two, device by device."""
        lost = repeated = disorder = unexpected = 0
        examples: dict[str, list[str]] = {"lost": [], "repeated": [], "out of order": [], "unexpected": []}
        for device_id in {*self._recorded, *self._shown}:
            place = {event_id: number for number, event_id in enumerate(self._recorded[device_id])}
            times = Counter(self._shown[device_id])
            for event_id in place:
                if event_id not in times:
                    lost += 1
                    _remember(examples["lost"], f"{device_id}/{event_id}")
            for event_id, count in times.items():
                if event_id not in place:
                    unexpected += 1
                    _remember(examples["unexpected"], f"{device_id}/{event_id}")
                if count > 1:
                    repeated += count - 1
                    _remember(examples["repeated"], f"{device_id}/{event_id}")
            newest = -1
            for event_id in dict.fromkeys(self._shown[device_id]):
                number = place.get(event_id, newest)
                if number < newest:
                    disorder += 1
                    _remember(examples["out of order"], f"{device_id}/{event_id}")
                newest = max(newest, number)
        return Verdict(
            recorded=sum(map(len, self._recorded.values())),
            shown=sum(map(len, self._shown.values())),
            lost=lost,
            repeated=repeated,
            out_of_order=disorder,
            unexpected=unexpected,
            examples=examples,
        )


def _remember(few: list[str], example: str) -> None:
    if len(few) < 5:
        few.append(example)
