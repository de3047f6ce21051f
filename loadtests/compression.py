"""What compression saves and costs: bytes and CPU per event, for bodies as they are recorded, one receiver and many.

Run: `python -m loadtests.compression`. Prints one table; the figures in docs/protocol.md come from here.
"""

import argparse
import json
import secrets
import time
from random import Random
from uuid import UUID

from hub.compression import Deflater
from hub.wire import event_bytes
from shared.protocol.event import encode_event

__all__ = ["main"]


def _uuid(rand: Random) -> str:
    return str(UUID(int=rand.getrandbits(128), version=4))


def _event(event_type: str, data: dict[str, object], rand: Random) -> bytes:
    return encode_event(
        event_id=_uuid(rand), event_type=event_type, source="/fleetwire/worker", time="2026-11-21T08:30:00Z", data=data
    )


def _response_ready(files: int, rand: Random) -> bytes:
    listed = [
        {
            "file_id": _uuid(rand),
            "name": f"page-{number}.json",
            "size": rand.randrange(10**6),
            "sha256": secrets.token_hex(32),
            "content_type": "application/json",
            "url": f"/api/v1/files/{_uuid(rand)}",
        }
        for number in range(files)
    ]
    return _event("ResponseReady", {"job_id": _uuid(rand), "request": {"name": "load.csv"}, "files": listed}, rand)


def _tour(stops: int, rand: Random) -> bytes:
    listed = [
        {
            "stop": number,
            "name": f"{rand.choice(['Depot', 'Market', 'Harbour', 'Station'])} {rand.randrange(99)}",
            "lat": round(52 + rand.random(), 5),
            "lon": round(13 + rand.random(), 5),
            "window": [f"08:{rand.randrange(60):02d}", f"12:{rand.randrange(60):02d}"],
            "parcels": rand.randrange(20),
        }
        for number in range(stops)
    ]
    return _event("TourChanged", {"stops": listed}, rand)


def _cpu_us(bodies: list[bytes], receivers: int) -> tuple[float, int]:
    deflater = Deflater(threshold=512)
    began = time.process_time_ns()
    size = 0
    for body in bodies:
        for seq in range(1, receivers + 1):
            size += len(deflater.event(seq, body) or event_bytes(seq, body))
    return (time.process_time_ns() - began) / 1000 / len(bodies) / receivers, size // len(bodies) // receivers


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON line instead of the table")
    as_json = parser.parse_args().json
    rand = Random(1)
    kinds = {
        "ResponseReady, 1 file": [_response_ready(1, rand) for _ in range(500)],
        "ResponseReady, 10 files": [_response_ready(10, rand) for _ in range(300)],
        "tour of 10 stops": [_tour(10, rand) for _ in range(500)],
        "tour of 100 stops": [_tour(100, rand) for _ in range(100)],
        "tour of 1,500 stops": [_tour(1500, rand) for _ in range(10)],
    }
    rows = []
    for name, bodies in kinds.items():
        alone_us, compressed = _cpu_us(bodies, 1)
        shared_us, _ = _cpu_us(bodies[:10], 500)
        plain = sum(len(event_bytes(1, body)) for body in bodies) // len(bodies)
        rows.append(
            {
                "event": name,
                "plain_bytes": plain,
                "compressed_bytes": compressed,
                "saved": round(1 - compressed / plain, 2),
                "cpu_us": round(alone_us, 1),
                "cpu_us_each_of_500": round(shared_us, 1),
            }
        )
    if as_json:
        print(json.dumps(rows))
        return
    print(f"{'event':26}{'plain':>9}{'sent':>9}{'saved':>7}{'CPU µs':>9}{'of 500, each':>14}")
    for row in rows:
        print(
            f"{row['event']:26}{row['plain_bytes']:9,}{row['compressed_bytes']:9,}{row['saved']:7.0%}"
            f"{row['cpu_us']:9.1f}{row['cpu_us_each_of_500']:14.1f}"
        )


if __name__ == "__main__":
    main()
