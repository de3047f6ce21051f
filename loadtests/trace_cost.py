"""What tracing costs a hub per delivered event that is not traced: a hub with it off beside one with it on, in turns.

Run: `python -m loadtests.trace_cost [--devices 300 --seconds 4 --turns 5]`. Prints one line of JSON. The first of the
two hubs is there twice, under `off` and `off again`: their difference is what the machine's restlessness amounts to.
"""

import argparse
import json
from contextlib import ExitStack
from typing import Final

import uvloop

from loadtests.bench.devices import running_devices
from loadtests.bench.peers.launch import Running
from loadtests.bench.side import Point, Side, Turns
from loadtests.stand import running_stand

__all__ = ["main"]

HUBS: Final = {"off": "0", "on": "1", "off again": "0"}
# As the cost benchmark has it: the sweep would find that what is only published is not in the log.
_QUIET: Final = {"FLEETWIRE_HUB_SWEEP_S": "3600", "FLEETWIRE_HUB_CANARY_S": "2"}


def main(arguments: list[str] | None = None) -> int:
    """One device at a time, each event acked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--devices", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--rate", type=int, default=4000)
    given = parser.parse_args(arguments)
    names = [f"bench-{number}" for number in range(given.devices)]
    point = Point("one device at a time, each event acked", "unicast", given.rate, ack_every=1)
    counted = {name: Turns() for name in HUBS}
    with ExitStack() as stack:
        sides = {}
        for name, sample in HUBS.items():
            stand = stack.enter_context(running_stand(durable=False))
            uvloop.run(stand.make_devices(names))
            settings = _QUIET | {
                "FLEETWIRE_TRACE_SAMPLE": sample,
                "FLEETWIRE_TRACE_URL": "http://127.0.0.1:9/v1/traces",
            }
            hub = stack.enter_context(stand.hub(capacity=given.devices + 10, **settings))
            driver = stack.enter_context(running_devices(stand, hub.port, names, ack_every=1))
            driver.welcomed()
            sides[name] = Side(stand, Running("hub", hub.pid, hub.port, hub.wait_settled), driver, names)
        for side in sides.values():
            side.take(point, given.seconds / 2, None)
        for _ in range(given.turns):
            for name, side in sides.items():
                side.take(point, given.seconds, counted[name])
    print(
        json.dumps(
            {
                name: {"us_per_event": one.cost, "turns": one.us_per_event, "lost": one.lost}
                for name, one in counted.items()
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
