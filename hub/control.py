"""What operators may ask of a hub on its operations port: how it stands, who would go where, move, pause, drain.

`GET /control/hub`, and `POST` to `/control/plan`, `move`, `pause`, `resume`, `abort`, `drain`, `look`, with a JSON
object as body where there is something to say. Who may ask, the operations server has judged already.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hub.connection import Connection
from hub.figures import DEVICES_MAX, devices, figures
from hub.gate import Gate
from hub.mover import Mover
from hub.neighbours import Neighbours
from hub.registry import Registry
from hub.strangers import Strangers

__all__ = ["Control"]

BODY_MAX: Final = 64 * 1024
NAMES_MAX: Final = 64


class _Wrong(ValueError):
    """What was sent makes no sense; the message names the field."""


class _NotNow(RuntimeError):
    """The hub is in no state to do that; the message says why."""


class _Parts(NamedTuple):
    registry: Registry[Connection]
    neighbours: Neighbours
    strangers: Strangers
    mover: Mover
    gate: Gate


class Control:
    """`routes()` for the operations server, which is there before the hub is; until `open()` they answer 503."""

    def __init__(self, name: str, *, drain: Callable[[], None]) -> None:
        """`drain()` begins this hub's leaving; it returns at once."""
        self._name = name
        self._drain = drain
        self._parts: _Parts | None = None

    def open(
        self,
        registry: Registry[Connection],
        neighbours: Neighbours,
        strangers: Strangers,
        mover: Mover,
        gate: Gate,
    ) -> None:
        """The hub takes devices."""
        self._parts = _Parts(registry, neighbours, strangers, mover, gate)

    def routes(self) -> list[Route]:
        """For the operations server."""
        posts: dict[str, Callable[[_Parts, Mapping[str, Any]], dict[str, Any]]] = {
            "plan": self._plan,
            "move": self._move,
            "pause": self._pause,
            "resume": self._resume,
            "abort": self._abort,
            "drain": self._leave,
            "look": self._look,
        }
        return [
            Route("/control/hub", self._endpoint(lambda parts, _: self._state(parts)), methods=["GET"]),
            *(Route(f"/control/{name}", self._endpoint(what), methods=["POST"]) for name, what in posts.items()),
        ]

    def _endpoint(self, what: Callable[[_Parts, Mapping[str, Any]], dict[str, Any]]) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            if self._parts is None:
                return _problem(503, "the hub is starting: it waits for Postgres; try again")
            try:
                return JSONResponse(what(self._parts, await _body(request)))
            except _Wrong as error:
                return _problem(400, str(error))
            except _NotNow as error:
                return _problem(409, str(error))

        return answer

    def _state(self, parts: _Parts) -> dict[str, Any]:
        registry, neighbours, strangers, mover, gate = parts
        connections = len(registry)
        view = neighbours.view
        return {
            "hub": self._name,
            "instance": neighbours.instance,
            "phase": gate.phase,
            "not_ready": list(gate.reasons),
            "bus": gate.bus,
            "connections": connections,
            "capacity": registry.capacity,
            "own": connections - len(strangers),
            "strangers": len(strangers),
            "view": view.runs,
            "view_settled": neighbours.settling.is_settled,
            "settled_view": mover.rebalance.base.runs,
            "moving": mover.progress(),
        }

    def _look(self, parts: _Parts, body: Mapping[str, Any]) -> dict[str, Any]:
        """All that a page shows, in one answer; `devices` are those that it wants to know more of."""
        wanted = _names(body, "devices", DEVICES_MAX)
        return self._state(parts) | {"figures": figures(), "devices": devices(parts.registry, wanted)}

    def _plan(self, parts: _Parts, body: Mapping[str, Any]) -> dict[str, Any]:
        known = set(parts.neighbours.view.runs)
        without, plus = _names(body, "without"), _names(body, "with")
        if unknown := sorted(set(without) - known):
            raise _Wrong(f"without: {', '.join(unknown)} is no hub here; there are {', '.join(sorted(known))}")
        return {"hub": self._name} | parts.mover.plan(without=without, plus=plus)

    def _move(self, parts: _Parts, body: Mapping[str, Any]) -> dict[str, Any]:
        if parts.gate.phase != "open":
            raise _NotNow("the hub is leaving: it sends all its devices away")
        to = body.get("to")
        if to is not None and (not isinstance(to, str) or parts.neighbours.get(to) is None):
            raise _Wrong(f"to: must be the name of a hub that lives: {', '.join(parts.neighbours.view.names)}")
        return {"planned": parts.mover.move(to)} | self._state(parts)

    def _pause(self, parts: _Parts, _: Mapping[str, Any]) -> dict[str, Any]:
        parts.mover.pause()
        return self._state(parts)

    def _resume(self, parts: _Parts, _: Mapping[str, Any]) -> dict[str, Any]:
        parts.mover.resume()
        return self._state(parts)

    def _abort(self, parts: _Parts, _: Mapping[str, Any]) -> dict[str, Any]:
        return {"stay": parts.mover.abort()} | self._state(parts)

    def _leave(self, parts: _Parts, _: Mapping[str, Any]) -> dict[str, Any]:
        self._drain()
        return self._state(parts)


async def _body(request: Request) -> Mapping[str, Any]:
    raw = b""
    async for part in request.stream():
        raw += part
        if len(raw) > BODY_MAX:
            raise _Wrong(f"the body must not be larger than {BODY_MAX} bytes")
    if not raw:
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _Wrong(f"the body must be a JSON object: {error}") from None
    if not isinstance(value, dict):
        raise _Wrong("the body must be a JSON object")
    return value


def _names(body: Mapping[str, Any], field: str, most: int = NAMES_MAX) -> list[str]:
    names = body.get(field, [])
    if not isinstance(names, list) or len(names) > most or not all(isinstance(name, str) for name in names):
        raise _Wrong(f"{field}: must be a list of at most {most} names")
    return names


def _problem(status: int, detail: str) -> Response:
    body = {"type": "about:blank", "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")
