"""What the bus costs by itself: CPU microseconds per message of the reader and of the publisher, through a real Valkey.

The publisher runs in a process of its own, at a steady rate and then as fast as the reader takes it, so that the
reader's figure is for one message per read of the socket first and for many per read then. Messages hold 200 bytes
and go to 500 devices.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop
from rich.console import Console

from infra.onebox.home import Home
from infra.onebox.valkey import EmbeddedValkey
from loadtests.ports import free_port
from loadtests.run_folder import run_folder
from loadtests.stand import child
from shared.bus.message import EVENT, Message
from shared.bus.publisher import Offer, Publisher
from shared.bus.reader import SlotReader
from shared.hash_slots import slot_of

RESULTS = Path(__file__).parent / "results"
DEVICES = [f"bench-{number}" for number in range(500)]
BODY = b"x" * 200


async def publish(url: str, per_second: int, seconds: float) -> float:
    """Offer messages, one device at a time when the rate is given, in bursts of 50 when it is 0. CPU µs per message."""
    publisher = Publisher(url)
    task = asyncio.create_task(publisher.run())
    while not publisher.connected:
        await asyncio.sleep(0.01)
    messages = [Message(EVENT, device_id, 1, seq, BODY) for seq, device_id in enumerate(DEVICES)]
    sent, began, cpu = 0, time.monotonic(), time.process_time()
    while (spent := time.monotonic() - began) < seconds:
        due = int(spent * per_second) - sent if per_second else 50
        for _ in range(min(due, 50)):
            sent += publisher.offer(messages[sent % len(messages)]) is Offer.OFFERED
        await asyncio.sleep(0 if not per_second and publisher.held < 500 else 0.001)
    cost = (time.process_time() - cpu) / sent * 1e6
    await publisher.close()
    await task
    return cost


async def measure(url: str, per_second: int, seconds: float) -> dict[str, float]:
    """One publisher process against one reader here."""
    received = 0

    def count(kind: int, device_id: str, epoch: int, seq: int, body: bytes) -> None:
        nonlocal received
        received += 1

    reader = SlotReader(url, on_message=count, on_gap=lambda slots: None)
    task = asyncio.create_task(reader.run())
    for device_id in DEVICES:
        reader.acquire(slot_of(device_id))
    for device_id in DEVICES:
        if not await reader.wait_confirmed(slot_of(device_id), 10):
            raise RuntimeError("a slot was not confirmed")
    arguments = [sys.executable, "-m", "loadtests.bus_reader", "--publish", url]
    arguments += ["--per-second", str(per_second), "--seconds", str(seconds)]
    publisher = await asyncio.create_subprocess_exec(*arguments, stdout=subprocess.PIPE)
    async with asyncio.timeout(seconds + 30):
        while not received:
            await asyncio.sleep(0.01)
        before, began, cpu = received, time.monotonic(), time.process_time()
        await asyncio.sleep(seconds * 0.8)
        messages, spent = received - before, time.monotonic() - began
        reader_us = (time.process_time() - cpu) / messages * 1e6
        output, _ = await publisher.communicate()
    await reader.close()
    await task
    return {
        "messages_per_second": round(messages / spent),
        "reader_us": round(reader_us, 2),
        "publisher_us": round(float(output), 2),
    }


def main() -> int:
    """Measure at 4,000 messages a second and as fast as it goes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--publish", metavar="URL", help="internal: be the publisher")
    parser.add_argument("--per-second", type=int, default=0)
    options = parser.parse_args()
    if options.publish:
        sys.stdout.write(f"{uvloop.run(publish(options.publish, options.per_second, options.seconds))}\n")
        return 0
    console = Console()
    found: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder("fleetwire-bus-"))
        home = Home(folder / "home")
        home.prepare()
        server = EmbeddedValkey(home, port=free_port())
        server.prepare()
        stack.enter_context(child(server.launch_arguments(), folder / "valkey.log", server.environment()))
        uvloop.run(server.wait_ready(30))
        for name, per_second in (("4000/s, one at a time", 4000), ("as fast as it goes", 0)):
            found[name] = uvloop.run(measure(server.url, per_second, options.seconds))
            console.print(name, found[name])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"bus-reader-{time.strftime('%Y%m%d-%H%M%S')}.json").write_text(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
