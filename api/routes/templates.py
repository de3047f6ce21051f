"""Templates: what inspections are made by. Operators write them, everybody who inspects reads them.

A change names the version that its author has seen and makes the next one; no version is ever lost.
"""

from collections.abc import Sequence
from random import Random
from typing import Any, Final
from uuid import UUID

import orjson
from starlette.responses import Response

from api.answers import typed_answer
from api.descriptions.templates import (
    CHANGE_TEMPLATE,
    CREATE_TEMPLATE,
    LIST_TEMPLATES,
    READ_TEMPLATE,
    TemplateContent,
    TemplatesPage,
)
from api.inputs import uuid_of
from api.pagination import InvalidCursor, SignedCursors
from api.preconditions import etag_of, is_known, precondition_failed, seen_versions
from api.problems import Problem
from api.resource import Call, Guard, Operation, Resource
from api.shedding import Shed
from api.template_answer import FOR_GOOD, encoded_template, listed_template, template_headers
from api.template_cache import TemplateCache
from shared.clock import monotonic, wall
from shared.protocol.ids import time_ordered_uuid
from shared.store import templates
from shared.store.pool import Connection, Pool
from shared.store.replicas import Replicas
from shared.store.templates import TemplateRow
from shared.tokens import Scope

__all__ = ["BODY_MAX_BYTES", "Templates"]

BODY_MAX_BYTES: Final = 256 * 1024
LIMIT_DEFAULT: Final = 100
_VERSION_MAX: Final = 2**31 - 1
_LAST_ID: Final = UUID(int=2**128 - 1)
_SORT: Final = "templates"
_READERS: Final[frozenset[Scope]] = frozenset({"device", "operator", "service"})
_WRITERS: Final[frozenset[Scope]] = frozenset({"operator"})


class Templates:
    """`GET | POST /api/v1/templates`, `GET | PUT /api/v1/templates/{template_id}`"""

    def __init__(
        self,
        pool: Pool,
        replicas: Replicas,
        cache: TemplateCache,
        cursors: SignedCursors,
        *,
        page_max: int,
        rand: Random,
    ) -> None:
        self._pool = pool
        self._replicas = replicas
        self._cache = cache
        self._cursors = cursors
        self._page_max = page_max
        self._rand = rand

    def resources(self, guard: Guard) -> Sequence[Resource]:
        """For the route table."""
        # Escapes may make what is sent longer than what is kept.
        content: dict[str, Any] = {"body": TemplateContent, "body_max_bytes": 2 * BODY_MAX_BYTES}
        create = Operation(self.create, _WRITERS, **content, idempotency="optional", description=CREATE_TEMPLATE)
        change = Operation(self.change, _WRITERS, **content, idempotency="optional", description=CHANGE_TEMPLATE)
        listed = Operation(self.page, _READERS, description=LIST_TEMPLATES, shed=Shed.FIRST)
        read = Operation(self.read, _READERS, description=READ_TEMPLATE)
        return [
            Resource(guard, "/api/v1/templates", {"GET": listed, "POST": create}),
            Resource(guard, "/api/v1/templates/{template_id}", {"GET": read, "PUT": change}),
        ]

    async def page(self, call: Call) -> Response:
        """Templates without their bodies, newest first."""
        limit = call.query.integer("limit", default=min(LIMIT_DEFAULT, self._page_max), low=1, high=self._page_max)
        after = _LAST_ID
        if (text := call.query.text("cursor")) is not None:
            try:
                _, after = self._cursors.read(text, _SORT, {}, (str, UUID))
            except InvalidCursor as error:
                raise Problem("invalid-parameter", str(error), field="cursor") from None
        rows = await templates.page(self._replicas.after(call.read_after), after=after, limit=limit + 1)
        shown = rows[:limit]
        following = self._cursors.sign(_SORT, {}, ("", shown[-1].template_id)) if len(rows) > limit else None
        return typed_answer(TemplatesPage([listed_template(row) for row in shown], following))

    async def read(self, call: Call) -> Response:
        """The newest version, or the one asked for. 304 when the client has it."""
        template_id = _template_id(call)
        version = _asked_version(call)
        # Who names a write of theirs wants nothing that was vouched for before it.
        entry = await self._cache.get(template_id, at_once=call.read_after is not None)
        if entry is None:
            raise _unknown()
        if version is None:
            return entry.not_modified() if is_known(call.headers, entry.etag) else entry.answer()
        if version == entry.edition.version:
            body = entry.body
        elif (row := await templates.read_version(self._pool, template_id, version)) is not None:
            body = encoded_template(row)
        else:
            raise _unknown()
        headers = template_headers(version, FOR_GOOD)
        if is_known(call.headers, headers["ETag"]):
            return Response(None, 304, headers)
        return Response(body, 200, headers, media_type="application/json")

    async def create(self, call: Call) -> Response:
        """A new template, in its first version."""
        name, body = _checked(call.body)
        by = call.claims.principal
        once = call.once
        template_id = once.uuid("template") if once else time_ordered_uuid(wall(), self._rand)

        async def work(connection: Connection) -> Response:
            row = await templates.create(connection, template_id, name, body, by=by)
            response = _written(row, 201)
            response.headers["Location"] = f"/api/v1/templates/{row.template_id}"
            if once is not None:
                await once.seal(connection, response)
            return response

        return await self._pool.run(work)

    async def change(self, call: Call) -> Response:
        """The next version, upon one that the author has seen."""
        template_id = _template_id(call)
        seen = seen_versions(call.headers)
        name, body = _checked(call.body)
        by = call.claims.principal
        once = call.once

        async def work(connection: Connection) -> tuple[TemplateRow, Response] | None:
            row = await templates.change(connection, template_id, seen, name, body, by=by)
            if row is None:
                return None
            response = _written(row, 200)
            if once is not None:
                await once.seal(connection, response)
            return row, response

        began_at = monotonic()
        changed = await self._pool.run(work)
        if changed is None:
            current = await templates.read(self._pool, template_id)
            if not isinstance(current, TemplateRow):
                raise _unknown()
            raise precondition_failed(current.version, orjson.loads(encoded_template(current)))
        row, response = changed
        self._cache.replaced(row, began_at=began_at)
        return response


def _template_id(call: Call) -> UUID:
    return uuid_of(call.path["template_id"], "template_id")


def _asked_version(call: Call) -> int | None:
    if call.query.text("version") is None:
        return None
    return call.query.integer("version", default=1, low=1, high=_VERSION_MAX)


def _unknown() -> Problem:
    return Problem("not-found", "there is no such template, or not this version of it")


def _checked(content: TemplateContent) -> tuple[str, str]:
    """Name and body as they are kept. Raises Problem (400)."""
    if not content.name.isprintable() or not content.name.strip():
        raise Problem("invalid-body", "name must be printable characters, on one line", field="name")
    try:
        body = orjson.dumps(content.body)
    except (TypeError, ValueError):
        # Numbers that no other reader may have, or halves of characters.
        detail = "body must be JSON in UTF-8, with integers of at most 64 bits"
        raise Problem("invalid-body", detail, field="body") from None
    if len(body) > BODY_MAX_BYTES:
        detail = f"body has {len(body)} bytes as JSON; use at most {BODY_MAX_BYTES}"
        raise Problem("invalid-body", detail, field="body")
    return content.name, body.decode()


def _written(row: TemplateRow, status: int) -> Response:
    headers = {"ETag": etag_of(row.version)}
    return Response(encoded_template(row), status, headers, media_type="application/json")
