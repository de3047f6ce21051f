"""An operations port that answers as a hub's does, and remembers what it was asked."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.telemetry.health import OpsServer, Readiness

OPS_TOKEN = "the-token-of-the-operations-ports"


class OpsPort:
    """What a hub's operations port answers, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []
        self.answers: dict[str, tuple[int, Any]] = {
            "plan": (200, {"stay": 1, "move": {"hub-2": 2}, "refused": {}}),
            "move": (200, {"planned": 2, "connections": 3, "moving": {"left": 2}}),
            "drain": (200, {"connections": 3, "moving": {"left": 0}}),
            "pause": (200, {"connections": 3, "moving": {"left": 2}}),
        }
        routes = [Route("/control/{what}", self._answer, methods=["POST"])]
        self.server = OpsServer(
            "127.0.0.1", 0, process="hub", readiness=lambda: Readiness(True), token=OPS_TOKEN, routes=routes
        )

    async def _answer(self, request: Request) -> Response:
        what = request.path_params["what"]
        self.asked.append((what, await request.json()))
        status, body = self.answers[what]
        return JSONResponse(body, status)
