"""A device process for runs that kill it: submits operations, takes results, says each step in a line of JSON.

    python -m loadtests.offline_device '{"device": …, "folder": …, "api": …, "token": …, "template": …,
                                         "entities": 50, "changes": 4, "take": 250, "rapid": 1}'

It submits `entities` inspections with `changes` updates each, every one after the one before, then takes results until
`take` of them are taken (in all runs with this folder, counted by the caller), and stays until it is ended.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from device import Client, Timing, new_id

__all__ = ["main"]


def _say(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, **more}), flush=True)


async def _run(plan: dict[str, Any]) -> None:
    timing = Timing().faster(plan.get("rapid", 1))
    async with Client(
        plan["device"], api=plan["api"], token=plan["token"], folder=Path(plan["folder"]), timing=timing
    ) as client:
        for _ in range(plan["entities"]):
            await _inspect(client, plan["template"], plan["changes"])
        _say("submitted", waiting=client.outbox.waiting)
        taken = 0
        async for result in client.results():
            _say("result", op_id=result.op_id, status=result.status, redelivered=result.redelivered,
                 version=result.version, entity=result.operation["entity_id"], error=repr(result.error))  # fmt: skip
            taken += 1
            if taken == plan["take"]:
                await client.finish(result)
                break
        _say("done", waiting=client.outbox.waiting, results=client.outbox.results)
        await asyncio.get_running_loop().create_future()


async def _inspect(client: Client, template: str, changes: int) -> None:
    entity = new_id()
    data = {"template_id": template, "title": "Brakes", "answers": {}}
    last = await client.submit({"type": "inspection.create", "entity_id": entity, "data": data})
    for number in range(changes):
        operation = {"type": "inspection.update", "entity_id": entity, "data": {"answers": {f"{number}": number}}}
        last = await client.submit(operation, after=last)


def main() -> None:
    """Until it is ended."""
    asyncio.run(_run(json.loads(sys.argv[1])))


if __name__ == "__main__":
    main()
