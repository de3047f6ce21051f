"""Devices that all connect in the same instant, as after a power cut: no jitter, no pause, each read acked at once.

Plain epoll in a process of its own, requests built beforehand, frames looked at and not parsed, so that the server is
what is waited for. Each device has a source address of its own. Orders come as one JSON line: port, tokens by device
and how many events each has missed. A line `go` starts it; one JSON line says what was seen.
"""

import errno
import json
import resource
import select
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

from loadtests.driver.latency import Latencies
from loadtests.driver.wire import CLOSE, PING, PONG, TEXT, FrameReader, handshake, masked_frame
from loadtests.process import cpu_seconds

__all__ = ["Burst", "event_id", "source_address"]

_EVENT: Final = b'{"type":"event","seq":'
_WELCOME: Final = b'{"type":"welcome"'
_CONNECTS_A_TURN: Final = 64
QUIET_S: Final = 0.7  # after the last event, so that one shown twice is seen


def event_id(device_id: str, seq: int) -> str:
    """The id of the event that a device has to be shown at this place."""
    return f"{device_id}-{seq}"


def source_address(number: int) -> str:
    """One of the loopback network's addresses, another one for each number below four million."""
    return f"127.{64 + (number >> 16) % 64}.{number >> 8 & 255}.{number & 255}"


class _Device:
    __slots__ = ("acked", "began", "head", "id", "open", "reader", "request", "seq", "sock", "written")

    def __init__(self, device_id: str, request: bytes, sock: socket.socket) -> None:
        self.id = device_id
        self.request = request
        self.sock = sock
        self.written = False
        self.open = False
        self.head = b""
        self.reader = FrameReader()
        self.seq = 0
        self.acked = 0
        self.began = 0.0


class Burst:
    """One storm.

    `run()` lasts until every device has acked its last event or lost its connection, or until the deadline.
    """

    def __init__(self, port: int, tokens: dict[str, str], missed: int) -> None:
        self._port = port
        self._missed = missed
        self._poll = select.epoll()
        self._devices: dict[int, _Device] = {}
        for number, (device_id, token) in enumerate(tokens.items()):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.bind((source_address(number), 0))
            target = f"/v1/socket?device_id={device_id}"
            request = handshake(f"127.0.0.1:{port}", target, token)
            self._devices[sock.fileno()] = _Device(device_id, request, sock)
        self._done = 0
        self._last_welcome = 0.0
        self.welcomes = Latencies()
        self.shown = self.acks = self.wrong = 0
        self.refusals: Counter[int] = Counter()
        self.closes: Counter[int] = Counter()
        self.cut = 0

    def run(self, deadline_s: float) -> dict[str, Any]:
        """Connect all, take what comes, ack it."""
        cpu = cpu_seconds()
        first_syn_unix, begun = time.time(), time.monotonic()
        end = begun + deadline_s
        waiting = iter(list(self._devices.values()))
        left = len(self._devices)
        while left > 0 and time.monotonic() < end:
            for device in self._some(waiting):
                left -= 1
                self._connect(device)
            self._turn(0.0)
        while self._done + self.cut < len(self._devices) and time.monotonic() < end:
            self._turn(0.05)
        finished = time.monotonic()
        spent = cpu_seconds() - cpu
        while time.monotonic() < finished + QUIET_S:
            self._turn(0.05)
        self._close()
        welcomed = self.welcomes.count
        return {
            "first_syn_unix": first_syn_unix,
            "all_acked_s": round(finished - begun, 3) if self._done == len(self._devices) else None,
            "welcomed": welcomed,
            "connects_per_s": round(welcomed / max(self._last_welcome - begun, 1e-6)) if welcomed else 0,
            "welcome": self.welcomes.summary(),
            "shown": self.shown,
            "out_of_order_or_repeated": self.wrong,
            "acks": self.acks,
            "refusals": dict(self.refusals),
            "closes": dict(self.closes),
            "cut": self.cut,
            "driver_cpu_s": round(spent, 3),
        }

    def _some(self, waiting: Iterator[_Device]) -> Iterator[_Device]:
        for _ in range(_CONNECTS_A_TURN):
            device = next(waiting, None)
            if device is None:
                return
            yield device

    def _connect(self, device: _Device) -> None:
        device.began = time.monotonic()
        failed = device.sock.connect_ex(("127.0.0.1", self._port))
        if failed not in (0, errno.EINPROGRESS):
            self._lost(device)
            return
        self._poll.register(device.sock.fileno(), select.EPOLLOUT)

    def _turn(self, wait_s: float) -> None:
        for number, what in self._poll.poll(wait_s, 1024):
            device = self._devices[number]
            try:
                if what & select.EPOLLOUT and not device.written:
                    device.sock.send(device.request)
                    device.written = True
                    self._poll.modify(number, select.EPOLLIN)
                elif data := device.sock.recv(262144):
                    self._on_data(device, data)
                else:
                    self._lost(device)
            except BlockingIOError:
                continue
            except OSError:
                self._lost(device)

    def _on_data(self, device: _Device, data: bytes) -> None:
        if not device.open:
            device.head += data
            end = device.head.find(b"\r\n\r\n")
            if end < 0:
                return
            status = int(device.head[9:12])
            if status != 101:
                self.refusals[status] += 1
                self._lost(device)
                return
            device.open = True
            data = device.head[end + 4 :]
        answers = b""
        for opcode, payload in device.reader.feed(data):
            if opcode == TEXT and payload.startswith(_EVENT):
                self._on_event(device, payload)
            elif opcode == TEXT and payload.startswith(_WELCOME):
                self._last_welcome = time.monotonic()
                self.welcomes.add((self._last_welcome - device.began) * 1000)
            elif opcode == PING:
                answers += masked_frame(PONG, payload)
            elif opcode == CLOSE:
                self.closes[int.from_bytes(payload[:2], "big")] += 1
        if device.seq > device.acked:
            device.acked = device.seq
            self.acks += 1
            self._done += device.seq == self._missed
            answers += masked_frame(TEXT, b'{"type":"ack","seq":%d}' % device.seq)
        if answers:
            device.sock.send(answers)

    def _on_event(self, device: _Device, payload: bytes) -> None:
        seq = int(payload[len(_EVENT) : payload.index(b",", len(_EVENT))])
        expected = device.seq + 1
        if seq != expected or b'"id":"%b"' % event_id(device.id, expected).encode() not in payload:
            self.wrong += 1
            return
        device.seq = seq
        self.shown += 1

    def _close(self) -> None:
        for device in self._devices.values():
            device.sock.close()
        self._poll.close()

    def _lost(self, device: _Device) -> None:
        self.cut += 1
        self._done -= device.acked >= self._missed
        device.sock.close()


def main() -> int:
    """Prepare, wait for the word, run, report."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    orders = json.loads(sys.stdin.readline())
    burst = Burst(orders["port"], orders["tokens"], orders["missed"])
    print("prepared", flush=True)
    if sys.stdin.readline().strip() == "go":
        print(json.dumps(burst.run(orders["deadline_s"])), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
