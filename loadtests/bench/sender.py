"""Publishes numbered messages straight to the bus, at a rate, in a process of its own.

Orders come as one JSON line: devices, seconds, rate, mode (`unicast`: each message to the next device; `all`: to every
device, `rate` times a second; `notice`: one message for all, as often), payload bytes, the seq to begin with, and how
the server is spoken to (`speaks`, ours unless said otherwise). Prints one JSON line with what was sent and how late it
ran.
"""

import json
import socket
import sys
import time
from collections import defaultdict
from urllib.parse import unquote, urlsplit

import hiredis

from loadtests.bench.peers.publications import PUBLISHERS, notice

TURN_S = 0.001


def run(orders: dict[str, object]) -> dict[str, object]:
    """Send until the time is over."""
    url = urlsplit(str(orders["redis_url"]))
    devices: list[str] = json.loads(str(orders["devices"]))
    rate, seconds, everyone = float(str(orders["rate"])), float(str(orders["seconds"])), orders["mode"] != "unicast"
    filler = "x" * int(str(orders["payload"]))
    connection = socket.create_connection((url.hostname or "", url.port or 6379))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if url.password:
        connection.sendall(hiredis.pack_command(("AUTH", unquote(url.password))))  # type: ignore[arg-type]
    replies = hiredis.Reader()
    seqs: dict[str, int] = defaultdict(lambda: int(str(orders["first_seq"])) - 1)
    speaks = str(orders.get("speaks", "fleetwire"))
    publication = PUBLISHERS[speaks]
    # Peers have one message for all, we have one for each device's log.
    to_all: list[str | None] = [*devices] if speaks == "fleetwire" and orders["mode"] == "all" else [None]

    def command(to: str | None) -> bytes:
        device = to or "all"
        seqs[device] += 1
        sent = time.monotonic_ns()
        body = (
            f'{{"specversion":"1.0","type":"Bench","id":"{device}-{seqs[device]}","source":"/bench",'
            f'"data":{{"sent_ns":{sent},"filler":"{filler}"}}}}'
        )
        what = notice(seqs[device], body) if orders["mode"] == "notice" else publication(to, seqs[device], body)
        return bytes(hiredis.pack_command(what))  # type: ignore[arg-type]

    sent, position, behind_s = 0, 0, 0.0
    start = time.monotonic()
    # Unicast ends with a whole round, at the same rate, so that the next run finds every device at the same number.
    while (elapsed := time.monotonic() - start) < seconds or (not everyone and sent % len(devices)):
        due = int(elapsed * rate)
        batch: list[bytes] = []
        count = due - sent
        if everyone:
            for _ in range(min(count, 1)):
                batch.extend(command(to) for to in to_all)
                sent += 1
        else:
            left = min(count, 200 if elapsed < seconds else -sent % len(devices))
            for _ in range(left):
                batch.append(command(devices[position % len(devices)]))
                position += 1
                sent += 1
        if batch:
            connection.sendall(b"".join(batch))
            answered = 0
            while answered < len(batch):
                replies.feed(connection.recv(65536))
                while (reply := replies.gets()) is not False:
                    if isinstance(reply, Exception):
                        raise reply
                    answered += reply != b"OK"
        late = time.monotonic() - start - sent / rate
        behind_s = max(behind_s, late)
        if late < 0:
            time.sleep(min(TURN_S, -late))
    messages = sent * len(devices) if everyone else sent
    return {"sent": messages, "seconds": time.monotonic() - start, "behind_s": round(behind_s, 3)}


if __name__ == "__main__":
    print(json.dumps(run(json.loads(sys.stdin.readline()))), flush=True)
