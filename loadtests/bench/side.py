"""One server under load: its devices connected, events published at a rate, its CPU time counted meanwhile.

Measured is the server process alone, user and system time as exactly as the scheduler knows it. Events go to Redis as
the server's own publisher puts them there; where they are ours, the head of every log is set ahead, so that acks are
recorded as always. A turn is looked at in its middle, when gathered acks come as often as they will. A server that
falls behind is given time to catch up, and then the whole turn counts, with all that was delivered.
"""

import json
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

import uvloop

from loadtests.bench.devices import ACK_MS, Devices
from loadtests.bench.peers.launch import Running
from loadtests.process import cpu_nanoseconds, start_python
from loadtests.stand import Stand

__all__ = ["Point", "Side", "Turns"]

_HEAD: Final = 10**12
_PAYLOAD: Final = 60
_CATCH_UP_S: Final = 60.0
_STILL_S: Final = 8.0  # no more comes after so long without an event; some only read while Redis has something
_BEHIND_S: Final = 1.0
_SETTLE_S: Final = 0.2
_LEAD_S: Final = ACK_MS / 1000 + _SETTLE_S
LEAST_PUBLISHES: Final = 3.5  # in a turn, where one to all devices comes every few seconds


@dataclass(frozen=True)
class Point:
    """One load: `mode` unicast is one device at a time, `all` every device at once by a message for each, `notice`
    every device at once by one message for all; `rate` is what devices are shown per second.
    """

    name: str
    mode: str
    rate: int
    ack_every: int = 16


@dataclass
class Turns:
    """What was counted at one point."""

    us_per_event: list[float] = field(default_factory=list)
    delivered: int = 0
    acks: int = 0
    lost: int = 0
    caught_up_s: float = 0.0
    driver_s: float = 0.0
    latency: dict[str, float] = field(default_factory=dict)

    @property
    def cost(self) -> float:
        """CPU µs for a delivered event: the median of the turns."""
        return round(median(self.us_per_event), 2)


class Side:
    """A server with its devices, all welcomed."""

    def __init__(self, stand: Stand, server: Running, devices: Devices, names: Sequence[str]) -> None:
        self.server = server
        self._stand = stand
        self._devices = devices
        self._names = names
        self._next_seq = 1
        # A sweep after this would find that all logs have lost their events.
        server.wait_settled()
        uvloop.run(stand.pretend_heads(_HEAD))

    def take(self, point: Point, seconds: float, turns: Turns | None) -> None:
        """One turn, added to `turns`; without them it only warms up."""
        each = 1 if point.mode == "unicast" else len(self._names)
        seconds = max(seconds, LEAST_PUBLISHES * each / point.rate)
        turn_began = cpu_nanoseconds(self.server.pid)
        self._devices.ask("report")
        sender = self._start_sender(point, point.rate / each, seconds + 2 * _LEAD_S)
        self._devices.wait_for(1, within_s=_STILL_S)
        time.sleep(_LEAD_S)
        first, before = self._look()
        time.sleep(seconds)
        last, after = self._look()
        sent = self._sent_by(sender, seconds)
        sent_at = time.monotonic()
        seen = self._devices.report_when(sent, within_s=_CATCH_UP_S, still_s=_STILL_S)
        caught_up_s = time.monotonic() - sent_at
        time.sleep(_LEAD_S)  # gathered acks have left
        spent, events = after - before, last - first
        if caught_up_s > _BEHIND_S:
            spent, events = cpu_nanoseconds(self.server.pid) - turn_began, seen["events"]
        if point.mode != "notice":
            self._next_seq += sent // len(self._names)
        if turns is not None:
            turns.us_per_event.append(round(spent / 1e3 / max(events, 1), 2))
            turns.delivered += seen["events"]
            turns.acks += seen["acks"]
            turns.lost += sent - seen["events"]
            turns.caught_up_s = round(max(turns.caught_up_s, caught_up_s), 2)
            turns.driver_s += seen["cpu_s"]
            turns.latency = seen["latency"]

    def _look(self) -> tuple[int, int]:
        return self._devices.ask("count")["events"], cpu_nanoseconds(self.server.pid)

    def _start_sender(self, point: Point, rate: float, seconds: float) -> "subprocess.Popen[str]":
        orders = {
            "redis_url": self._stand.valkey.url,
            "devices": json.dumps(self._names),
            "rate": rate,
            "seconds": seconds,
            "mode": point.mode,
            "payload": _PAYLOAD,
            "first_seq": self._next_seq,
            "speaks": self.server.speaks,
        }
        with (self._stand.folder / "sender.log").open("ab") as log:
            sender = start_python("loadtests.bench.sender", log=log)
        assert sender.stdin is not None
        sender.stdin.write(json.dumps(orders) + "\n")
        sender.stdin.flush()
        return sender

    def _sent_by(self, sender: "subprocess.Popen[str]", seconds: float) -> int:
        said, _ = sender.communicate(timeout=seconds + 120)
        if sender.returncode:
            raise RuntimeError(f"the sender failed:\n{(self._stand.folder / 'sender.log').read_text()[-2000:]}")
        return int(json.loads(said)["sent"])
