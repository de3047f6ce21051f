"""`python -m loadtests.fuzz`: a million frames that are almost right, against a hub, which must neither fall nor grow.

Valid frames are taken apart and put together wrongly: other opcodes, reserved bits, false lengths, no mask, cut and
joined, JSON that lacks an end or nests without one, numbers out of range, compressed bytes that are none. A seed makes
a run repeatable. Whoever is closed comes back with the next frames.
"""

import argparse
import asyncio
import base64
import json
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

import uvloop
from rich.progress import Progress

from loadtests.process import resident_bytes
from loadtests.stand import running_stand

__all__ = ["Fuzzed", "fuzz", "random_frames"]

# Nothing of this may stand in the way of the frames.
SETTINGS: Final = {
    "FLEETWIRE_HUB_CLOSE_S": "0.5",
    "FLEETWIRE_HUB_HEARTBEAT_S": "1",
    # Few devices do here what the limits are there against.
    "FLEETWIRE_HUB_FLAPS_MAX": "0",
    "FLEETWIRE_HUB_HANDSHAKES_PER_S": "1000000",
    "FLEETWIRE_HUB_HANDSHAKES_BURST": "1000000",
    "FLEETWIRE_HUB_INBOUND_FRAMES_PER_S": "0",
    "FLEETWIRE_HUB_INBOUND_BYTES_PER_S": "0",
}
CHUNK: Final = 64
DEADLINE_S: Final = 5.0
COMPRESSED: Final = "Sec-WebSocket-Extensions: permessage-deflate\r\n"
GROWTH_MAX: Final = 16 * 1024 * 1024

# Taken, or answered by an `error` frame: the connection stays.
_MILD: Final = (
    b'{"type":"ack","seq":0}',
    b'{"type": "ack", "seq": 0}',
    b'{"seq":0,"type":"ack"}',
    b'{"type":"ack","seq":-1}',
    b'{"type":"ack","seq":true}',
    b'{"type":"token","token":"a.b.c"}',
    b'{"type":"token","token":7}',
    b'{"type":"sync","ref":"r","operations":[]}',
    b'{"type":"sync","ref":"\\ud800","operations":[{"a":[[[[1]]]]}]}',
    b'{"type":"welcome"}',
    b'{"type":"none"}',
)
_TEXTS: Final = (
    *_MILD,
    b'{"type":"ack","seq":9007199254740993}',
    b'{"type":"ack","seq":1e9}',
    b'{"type":"ack","seq":0,"seq":1}',
    b"[]",
    b"nil",
    b"",
    b"\xef\xbb\xbf{}",
    b"[" * 40,
    b'{"a":' * 40,
)
# One frame in so many may end its connection, so that most of what is sent is read.
_WILD_IN: Final = 40


@dataclass
class Fuzzed:
    """What was sent, and how connections ended: by close code, `cut` without one, `open` when they took it all."""

    frames: int = 0
    connections: int = 0
    refused: int = 0
    ends: Counter[str] = field(default_factory=Counter)


def random_frames(rand: Random, count: int) -> bytes:
    """So many frames, most of them harmless, each wrong in its own way."""
    return b"".join([_frame(rand) for _ in range(count)])


def _frame(rand: Random) -> bytes:
    if rand.randrange(_WILD_IN):
        return _mild(rand)
    payload = rand.choice(_TEXTS)
    first, masked = 0x81, True
    match rand.randrange(10):
        case 0:
            payload = rand.randbytes(rand.randrange(300))
        case 1:
            payload = bytes(byte ^ (rand.random() < 0.1) * rand.randrange(256) for byte in payload)
        case 2:
            payload = payload[: rand.randrange(len(payload) + 1)]
        case 3:
            first = rand.randrange(256)
        case 4:
            first = 0x80 | rand.choice((0x8, 0x9, 0xA))
            payload = rand.choice((b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x00\x00", b"\x0f\xa0\xff", bytes(126)))
        case 5:
            first = rand.choice((0x01, 0x00, 0x80))  # parts of a message
        case 6:
            first = 0xC1
            deflated = zlib.compress(payload * rand.choice((1, 5000)), wbits=-15)
            payload = rand.choice((deflated, deflated[:-3], payload))[:60_000]
        case 7:
            masked = rand.random() < 0.5
        case 8:
            payload = b"x" * rand.choice((125, 126, 127, 65_535, 65_536, 65_537))
    return _encoded(rand, first, payload, masked=masked)


def _mild(rand: Random) -> bytes:
    payload = rand.choice(_MILD)
    match rand.randrange(12):
        case 0:
            return _masked(rand, rand.choice((0x89, 0x8A)), rand.randbytes(rand.randrange(126)))
        case 1:
            place = rand.randrange(len(payload) + 1)
            between = _masked(rand, 0x89, b"") if rand.random() < 0.3 else b""
            return _masked(rand, 0x01, payload[:place]) + between + _masked(rand, 0x80, payload[place:])
        case 2:
            return _masked(rand, 0x81, payload + b" " * rand.choice((60, 100, 101, 126, 1000, 65_000)))
    return _masked(rand, 0x81, payload)


def _encoded(rand: Random, first: int, payload: bytes, *, masked: bool) -> bytes:
    """A frame whose length may be a lie, or longer than it need be."""
    length = len(payload)
    if rand.random() < 0.1:
        length = rand.choice((0, 125, 126, 65_535, 2**31, 2**63 - 1))
    return _head(first, length, masked=masked, stretch=rand.randrange(8) == 0) + _body(rand, payload, masked=masked)


def _masked(rand: Random, first: int, payload: bytes) -> bytes:
    """A frame as it should be."""
    return _head(first, len(payload), masked=True) + _body(rand, payload, masked=True)


def _head(first: int, length: int, *, masked: bool, stretch: bool = False) -> bytes:
    flag = 0x80 if masked else 0
    if length < 126 and not stretch:
        return bytes((first, flag | length))
    if length < 2**16:
        return bytes((first, flag | 126)) + length.to_bytes(2, "big")
    return bytes((first, flag | 127)) + length.to_bytes(8, "big")


def _body(rand: Random, payload: bytes, *, masked: bool) -> bytes:
    if not masked:
        return payload
    mask = rand.randbytes(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return mask + (int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")).to_bytes(len(payload), "big")


async def fuzz(
    url: str,
    devices: dict[str, str],
    frames: int,
    *,
    seed: int,
    on_sent: Callable[[int], None] = lambda count: None,
) -> Fuzzed:
    """Send `frames` frames over one socket per device (id to token) at a time. Raises OSError when nobody listens."""
    fuzzed = Fuzzed()

    async def one(number: int, device_id: str, token: str) -> None:
        rand = Random(seed * 1000 + number)
        share = frames // len(devices)
        while share > 0:
            count = min(CHUNK, share)
            share -= count
            await _visit(url, device_id, token, rand, count, fuzzed)
            on_sent(count)

    async with asyncio.TaskGroup() as group:
        for number, (device_id, token) in enumerate(devices.items()):
            group.create_task(one(number, device_id, token))
    return fuzzed


async def _visit(url: str, device_id: str, token: str, rand: Random, count: int, fuzzed: Fuzzed) -> None:
    """One connection: send until it is closed or all is sent."""
    parts = urlsplit(url)
    async with asyncio.timeout(4 * DEADLINE_S):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            key = base64.b64encode(rand.randbytes(16)).decode()
            writer.write(
                f"GET {parts.path}?device_id={device_id} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\n"
                f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
                f"Sec-WebSocket-Protocol: fleetwire.v1\r\nAuthorization: Bearer {token}\r\n"
                f"{rand.choice(('', COMPRESSED))}\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 101 "):
                fuzzed.refused += 1
                return
            fuzzed.connections += 1
            data = random_frames(rand, count)
            fuzzed.frames += count
            # In pieces, so that frames are cut wherever the kernel likes.
            cuts = sorted(rand.randrange(len(data) + 1) for _ in range(rand.randrange(4)))
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                writer.write(data[start:end])
                await asyncio.sleep(0)
            # A close of our own ends what took everything.
            writer.write(_masked(rand, 0x88, b"\x03\xe8"))
            writer.write_eof()
            fuzzed.ends[_end_of(await reader.read())] += 1
        except (ConnectionError, asyncio.IncompleteReadError):
            fuzzed.ends["cut"] += 1
        finally:
            writer.transport.abort()


def _end_of(answered: bytes) -> str:
    place = len(answered)
    # The close frame is the last thing a server says: find it from the end.
    for length in range(2, 126):
        place = len(answered) - 2 - length
        if place >= 0 and answered[place] == 0x88 and answered[place + 1] == length:
            return str(int.from_bytes(answered[place + 2 : place + 4], "big"))
    return "cut"


def open_files(pid: int) -> int:
    """Descriptors of a process."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def main() -> int:
    """Exit status 1 when the hub fell, grew, or said that something was not foreseen."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.fuzz", description=__doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with running_stand(durable=False) as stand:
        ids = [f"fuzz-{number}" for number in range(options.devices)]
        uvloop.run(stand.make_devices(ids))
        devices = {device_id: stand.token(device_id) for device_id in ids}
        with stand.hub(capacity=100, **SETTINGS) as hub, Progress() as progress:
            bar = progress.add_task(f"seed {options.seed}", total=options.frames)
            warm = options.frames // 10
            uvloop.run(fuzz(hub.url, devices, warm, seed=options.seed, on_sent=lambda n: progress.advance(bar, n)))
            memory, files = resident_bytes(hub.pid), open_files(hub.pid)
            fuzzed = uvloop.run(
                fuzz(
                    hub.url,
                    devices,
                    options.frames - warm,
                    seed=options.seed + 1,
                    on_sent=lambda n: progress.advance(bar, n),
                )
            )
            time.sleep(2.0)
            grown, more_files = resident_bytes(hub.pid) - memory, open_files(hub.pid) - files
        said = (stand.folder / "hub.log").read_text("utf-8", "replace")
    print(f"{fuzzed.frames:,} frames over {fuzzed.connections:,} connections, {fuzzed.refused} refused")
    print("ends:", ", ".join(f"{code} {count:,}" for code, count in fuzzed.ends.most_common()))
    print(f"memory {grown / 1024:+,.0f} KiB, descriptors {more_files:+d}")
    unforeseen = "Traceback" in said
    if unforeseen:
        print(said[-3000:])
    bad = unforeseen or grown > GROWTH_MAX or more_files > options.devices
    results = Path(__file__).with_name("results")
    results.mkdir(exist_ok=True)
    figures = {"frames": fuzzed.frames, "ends": dict(fuzzed.ends), "grown_bytes": grown, "seed": options.seed}
    (results / f"fuzz-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(figures, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
