"""What anybody may ask: a status word; reasons are on the operations port."""

from collections.abc import Callable

from starlette.responses import Response

from api.answers import json_answer
from api.descriptions.health import HEALTH, READY
from api.resource import Call, Guard, Operation, Resource

__all__ = ["health_resources"]


def health_resources(guard: Guard, is_ready: Callable[[], bool]) -> list[Resource]:
    """`/health`: the loop runs. `/ready`: requests may be sent here."""

    async def health(call: Call) -> Response:
        del call
        return json_answer({"status": "ok"})

    async def ready(call: Call) -> Response:
        del call
        return json_answer({"status": "ready"}) if is_ready() else json_answer({"status": "not ready"}, 503)

    return [
        Resource(guard, "/health", {"GET": Operation(health, description=HEALTH)}),
        Resource(guard, "/ready", {"GET": Operation(ready, description=READY)}),
    ]
