"""The devices of a benchmark in a process of their own: connect, report on request, leave.

Reads its orders as JSON on the command line, then one word per line on standard input: `report` prints what was
counted since the last report as one JSON line, `stop` ends.
"""

import asyncio
import json
import resource
import sys
from random import Random

import uvloop

from loadtests.driver.fleet import Fleet, FleetOptions
from loadtests.driver.latency import Latencies
from loadtests.process import cpu_seconds


async def serve(orders: dict[str, object]) -> None:
    """Hold the devices until told to stop."""
    tokens: dict[str, str] = json.loads(str(orders["tokens"]))
    url = str(orders["url"])
    options = FleetOptions(
        ack_every=int(str(orders["ack_every"])),
        keep_history=False,
        jitter_s=0.05,
        source_addresses=1 + len(tokens) // 20000,
    )
    fleet = Fleet(list(tokens), lambda device_id: (url, tokens[device_id]), options, Random(1))
    fleet.start_all()
    welcomed = await fleet.all_welcomed(60)
    print(json.dumps({"welcomed": fleet.totals.welcomed, "all": welcomed}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    totals = fleet.totals
    before = (0, 0, cpu_seconds())
    while (line := await reader.readline()).strip() == b"report":
        now = (totals.events, totals.acks, cpu_seconds())
        report = {
            "events": now[0] - before[0],
            "acks": now[1] - before[1],
            "cpu_s": now[2] - before[2],
            "connected": totals.connected,
            "gaps": totals.gaps,
            "resets": totals.resets,
            "closes": dict(totals.closes),
            "refusals": dict(totals.refusals),
            "latency": fleet.latencies.summary(),
        }
        before, fleet.latencies = now, Latencies()
        print(json.dumps(report), flush=True)
    assert line is not None
    await fleet.stop()


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    uvloop.run(serve(json.loads(sys.stdin.readline())))
