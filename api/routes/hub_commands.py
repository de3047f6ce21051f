"""What operators do with hubs: look at what a move or a drain would do, then do that, and steer moves under way.

Hubs are asked at their operations ports, all at once. A plan changes nothing; carrying one out needs what the plan said
that confirms it, so there is no move and no drain that nobody has seen beforehand.
"""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import structlog
from starlette.responses import Response

from api.answers import typed_answer
from api.dashboard.hub_ports import HubPorts, HubRefused
from api.descriptions.hubs import CARRY_OUT, MOVES, PLAN, CarriedOut, CarryOutBody, MovesBody, PlanBody
from api.hub_plans import NotConfirmed, confirmation, made, planned
from api.hub_view import HubView
from api.pagination import SignedCursors
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from shared.clock import wall
from shared.store.hubs import HubRow

__all__ = ["HubCommands"]

_log = structlog.get_logger(__name__)


class HubCommands:
    """`POST /api/v1/hubs/plan`, `/api/v1/hubs/carry-out`, `/api/v1/hubs/{hub}/moves`"""

    def __init__(self, hubs: HubView, ports: HubPorts, cursors: SignedCursors) -> None:
        self._hubs = hubs
        self._ports = ports
        self._cursors = cursors

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table."""
        operator = frozenset[Any]({"operator"})
        plan = Operation(self.plan, operator, body=PlanBody, description=PLAN)
        carry_out = Operation(self.carry_out, operator, body=CarryOutBody, description=CARRY_OUT)
        moves = Operation(self.moves, operator, body=MovesBody, description=MOVES)
        return [
            Resource(guard, "/api/v1/hubs/plan", {"POST": plan}),
            Resource(guard, "/api/v1/hubs/carry-out", {"POST": carry_out}),
            Resource(guard, "/api/v1/hubs/{hub}/moves", {"POST": moves}),
        ]

    async def plan(self, call: Call) -> Response:
        """Who would go where. Nothing is done."""
        body: PlanBody = call.body
        hubs, chosen = await self._chosen(body)
        counts: dict[str, Mapping[str, Any]] = {}
        troubles: list[str] = []
        asked = {"without": [body.hub]} if body.action == "drain" else {}
        for hub, answer in zip(chosen, await self._ask_all(chosen, "plan", asked), strict=True):
            if isinstance(answer, HubRefused):
                troubles.append(_said(hub, answer))
            else:
                counts[hub.name] = answer
        plan = made(body, hubs, counts, troubles)
        if not plan.problems:
            plan = msgspec.structs.replace(
                plan, confirm=confirmation(self._cursors, body, hubs, datetime.fromtimestamp(wall(), UTC), plan.devices)
            )
        return typed_answer(plan)

    async def carry_out(self, call: Call) -> Response:
        """Begin what was planned."""
        body: CarryOutBody = call.body
        question = PlanBody(body.action, body.hub, body.to)
        hubs, chosen = await self._chosen(question)
        try:
            planned(self._cursors, question, body.confirm, hubs, datetime.fromtimestamp(wall(), UTC))
        except NotConfirmed as error:
            raise Problem("wrong-state", str(error), field="confirm") from None
        asked = {"to": body.to} if body.action == "move" and body.to is not None else {}
        answers = await self._ask_all(chosen, body.action, asked)
        done = {hub.name: one for hub, one in zip(chosen, answers, strict=True) if not isinstance(one, HubRefused)}
        _log.warning(
            "an operator began a plan", action=body.action, hubs=sorted(done), to=body.to, by=call.claims.subject
        )
        for hub, answer in zip(chosen, answers, strict=True):
            if isinstance(answer, HubRefused):
                others = f"; begun at {', '.join(sorted(done))}" if done else ""
                raise Problem("wrong-state", f"{_said(hub, answer)}{others}")
        devices = sum(one.get("planned", one["connections"]) for one in done.values())
        return typed_answer(CarriedOut(devices, sorted(done)))

    async def moves(self, call: Call) -> Response:
        """Steer what one hub moves."""
        body: MovesBody = call.body
        _, [hub] = await self._chosen(PlanBody("move", call.path["hub"]))
        try:
            state = await self._ports.ask(hub, body.do, {})
        except HubRefused as refused:
            raise Problem("wrong-state", _said(hub, refused)) from None
        _log.warning("an operator steered moves", do=body.do, hub=hub.name, by=call.claims.subject)
        return typed_answer(CarriedOut(state["moving"]["left"], [hub.name]))

    async def _chosen(self, body: PlanBody) -> tuple[Sequence[HubRow], Sequence[HubRow]]:
        """All hubs that live, and those that this is about. Raises Problem (404, 422)."""
        hubs = await self._hubs.live()
        names = {hub.name for hub in hubs}
        if body.action == "drain" and body.hub is None:
            raise Problem("unprocessable", "hub: name the one to drain", field="hub")
        if body.action == "drain" and body.to is not None:
            raise Problem("unprocessable", "to: a drain sends each device where it belongs", field="to")
        for field, name in (("hub", body.hub), ("to", body.to)):
            if name is not None and name not in names:
                raise Problem("not-found", f"{field}: no hub of this name lives", field=field)
        chosen = [hub for hub in hubs if body.hub in (None, hub.name) and hub.name != body.to]
        if not chosen:
            raise Problem("not-found", "no hub lives that this could be asked of")
        return hubs, chosen

    async def _ask_all(
        self, hubs: Sequence[HubRow], what: str, body: Mapping[str, Any]
    ) -> list[Mapping[str, Any] | HubRefused]:
        async def one(hub: HubRow) -> Mapping[str, Any] | HubRefused:
            try:
                return await self._ports.ask(hub, what, body)
            except HubRefused as refused:
                return refused

        return list(await asyncio.gather(*map(one, hubs)))


def _said(hub: HubRow, refused: HubRefused) -> str:
    text = str(refused)
    return text if text.startswith(hub.name) else f"{hub.name} {text}"
