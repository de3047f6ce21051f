"""Operations as a device sends them, and templates for them."""

import itertools
from typing import Any
from uuid import UUID

import asyncpg

_numbers = itertools.count(1)

TEMPLATE = UUID(int=1 << 64)


def an_id() -> str:
    """A UUID that nobody has had."""
    return str(UUID(int=next(_numbers) << 48 | 0x7A))


def create(entity_id: str, *, op_id: str | None = None, **data: Any) -> dict[str, Any]:
    content = {"template_id": str(TEMPLATE), "title": "Brakes", "answers": {"left": 1}, **data}
    return {"op_id": op_id or an_id(), "type": "inspection.create", "entity_id": entity_id, "data": content}


def change(kind: str, entity_id: str, base_version: int, *, op_id: str | None = None, **data: Any) -> dict[str, Any]:
    """An operation of the type `inspection.<kind>`."""
    operation = {"op_id": op_id or an_id(), "type": f"inspection.{kind}", "entity_id": entity_id}
    operation["base_version"] = base_version  # type: ignore[assignment]
    return {**operation, "data": data} if data else operation


async def add_template(connection: asyncpg.Connection, template_id: UUID = TEMPLATE, *, version: int = 1) -> None:
    await connection.execute(
        "INSERT INTO templates (template_id, name, version, body) VALUES ($1, 'Daily', $2, '{}')", template_id, version
    )
