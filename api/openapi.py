"""The API as an OpenAPI 3.1 document, made from the resources that answer and the types that they decode with.

What follows from how an operation is guarded is said here for all of them: who may call it, and which problems come of
its token, path, query, body and key. So the document cannot say less than the checks do.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from api.description import ANSWER_HEADERS, PATH_PARAMETERS, REQUEST_HEADERS, Answer, Parameter
from api.descriptions.common import ProblemBody
from api.problems import MEDIA_TYPE, PROBLEMS
from api.resource import Operation, Resource

__all__ = ["document", "encoded"]

_REF: Final = "#/components/schemas/{name}"
_SCHEMES: Final[Mapping[str, str]] = {
    "device": "the device that `sub` names, and what is its own",
    "operator": "everything that people do",
    "service": "what other systems do",
}
_HEADERS: Final[Mapping[str, Any]] = {
    "X-Request-ID": {
        "description": "Names the request in the server's log.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Retry-After": {
        "description": "Not before so many seconds.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "WWW-Authenticate": {
        "description": "What is wrong with the token.",
        "required": True,
        "schema": {"type": "string", "pattern": "^Bearer"},
    },
    "RateLimit": {
        "description": "How many requests of this caller there is room for, and until when.",
        "schema": {"type": "string"},
    },
    "RateLimit-Policy": {"description": "How many there may be in which time.", "schema": {"type": "string"}},
    "Idempotency-Replayed": {
        "description": "The answer was given before, to the same request under the same key.",
        "schema": {"type": "string", "enum": ["true"]},
    },
    "Fleetwire-Wrote": {
        "description": "For `Fleetwire-Read-After` of the next list, where lists are read from copies.",
        "schema": {"type": "string"},
    },
}
_ABOUT: Final = """\
Every error is a problem of RFC 9457 with the id of the request. Every answer has an `X-Request-ID`: the one that was \
sent, if it is 1 to 64 characters of `A-Z a-z 0-9 . _ -`, else a new one. Where there is `GET` there is `HEAD`. A \
trailing slash makes no difference; unknown query parameters are ignored; percent-encoding in a path is refused. \
Answers are JSON, whatever `Accept` says. A body may come with `Content-Encoding: gzip`."""


def encoded(resources: Sequence[Resource], *, page_max: int) -> bytes:
    """The document as it is published."""
    return orjson.dumps(document(resources, page_max=page_max))


def document(resources: Sequence[Resource], *, page_max: int) -> dict[str, Any]:
    """The document as JSON values. `page_max` is the most that a `limit` may be."""
    schemas = _Schemas(resources)
    shared: dict[str, Any] = {}
    paths: dict[str, dict[str, Any]] = {}
    for resource in resources:
        for method, operation in resource.operations.items():
            if method != "HEAD" and operation.description.listed:
                said = _operation(resource, method, schemas, shared, page_max)
                paths.setdefault(resource.template, {})[method.lower()] = said
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Fleetwire",
            "version": "1",
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in dict.fromkeys(_tag(path) for path in paths)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "responses": dict(sorted(shared.items())),
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "Audience `fleetwire`. Its `scope` decides: "
                    + "; ".join(f"`{scope}`: {what}" for scope, what in _SCHEMES.items())
                    + ".",
                }
            },
        },
    }


class _Schemas:
    """The schemas of all types that any operation speaks with, those with a name as components."""

    def __init__(self, resources: Sequence[Resource]) -> None:
        self._kinds = [ProblemBody, *dict.fromkeys(_kinds(resources))]
        made, components = msgspec.json.schema_components(self._kinds, ref_template=_REF)
        self._made = list(made)
        self.components: dict[str, Any] = dict(sorted(components.items()))

    def of(self, kind: Any) -> dict[str, Any]:
        schema: dict[str, Any] = self._made[self._kinds.index(kind)]
        return schema


def _kinds(resources: Sequence[Resource]) -> Iterator[Any]:
    yield from (
        parameter.kind for table in (PATH_PARAMETERS, REQUEST_HEADERS, ANSWER_HEADERS) for parameter in table.values()
    )
    for resource in resources:
        for operation in resource.operations.values():
            description = operation.description
            if not description.listed:
                continue
            yield from (parameter.kind for parameter in description.query)
            yield from (answer.body for answer in description.answers.values() if answer.body is not None)
            if (body := _body_kind(operation)) is not None:
                yield body
            yield from description.mentions


def _body_kind(operation: Operation) -> Any:
    return operation.description.body_kind or operation.body


def _tag(template: str) -> str:
    parts = [part for part in template.split("/") if part]
    return parts[2] if parts[:2] == ["api", "v1"] else "process"


def _operation(
    resource: Resource,
    method: str,
    schemas: _Schemas,
    shared: dict[str, Any],
    page_max: int,
) -> dict[str, Any]:
    operation = resource.operations[method]
    description = operation.description
    said: dict[str, Any] = {
        "operationId": description.id,
        "summary": description.summary,
        "tags": [_tag(resource.template)],
    }
    if description.about:
        said["description"] = description.about
    parameters = [
        *(_parameter(PATH_PARAMETERS[name], "path", schemas) for name in resource.path_names),
        *(_bounded(_parameter(parameter, "query", schemas), page_max) for parameter in description.query),
        *(_parameter(REQUEST_HEADERS[name], "header", schemas) for name in description.headers),
    ]
    if operation.idempotency is not None:
        parameters.append(_key_parameter(required=operation.idempotency == "required"))
    if parameters:
        said["parameters"] = parameters
    if operation.body is not None:
        content: dict[str, Any] = {"schema": schemas.of(_body_kind(operation))}
        if description.body_example is not None:
            content["example"] = description.body_example
        said["requestBody"] = {"required": not operation.any_content, "content": {"application/json": content}}
    said["responses"] = {
        str(status): made
        for status, made in sorted(
            [
                *(
                    (status, _answer(answer, _often_sent(method, operation), schemas))
                    for status, answer in description.answers.items()
                ),
                *_problem_answers(resource, operation, schemas, shared),
            ],
            key=lambda pair: pair[0],
        )
    }
    said["security"] = [{"bearer": [scope]} for scope in sorted(operation.scopes)]
    return said


def _parameter(parameter: Parameter, place: str, schemas: _Schemas) -> dict[str, Any]:
    said: dict[str, Any] = {
        "name": parameter.name,
        "in": place,
        "description": parameter.about,
        "schema": schemas.of(parameter.kind),
    }
    if place == "path" or parameter.required:
        said["required"] = True
    if parameter.example is not None:
        said["example"] = parameter.example
    return said


def _bounded(said: dict[str, Any], page_max: int) -> dict[str, Any]:
    if said["name"] == "limit":
        said["schema"] = {**said["schema"], "maximum": page_max}
    return said


def _key_parameter(*, required: bool) -> dict[str, Any]:
    return {
        "name": "Idempotency-Key",
        "in": "header",
        "required": required,
        "description": "Do the request once, and give its answer again when it comes again. A fresh UUID is best.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[!#-\[\]-~]+$"},
        "example": "5e0f3c1a-6a3b-4c55-9a0e-1f6b7f1c2d3e",
    }


def _often_sent(method: str, operation: Operation) -> Iterator[str]:
    """Headers that an answer may have beside its own."""
    if operation.scopes:
        yield from ("RateLimit", "RateLimit-Policy")
        if method != "GET":
            yield "Fleetwire-Wrote"
    if operation.idempotency is not None:
        yield "Idempotency-Replayed"


def _answer(answer: Answer, often_sent: Iterable[str], schemas: _Schemas) -> dict[str, Any]:
    headers: dict[str, Any] = {name: {"$ref": f"#/components/headers/{name}"} for name in ("X-Request-ID", *often_sent)}
    for name in answer.headers:
        header = ANSWER_HEADERS[name]
        headers[name] = {"description": header.about, "required": True, "schema": schemas.of(header.kind)}
    said: dict[str, Any] = {"description": answer.about, "headers": headers}
    if answer.body is not None:
        said["content"] = {answer.media_type: {"schema": schemas.of(answer.body)}}
    return said


def _problem_answers(
    resource: Resource, operation: Operation, schemas: _Schemas, shared: dict[str, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    by_status: dict[int, list[str]] = {}
    for slug in dict.fromkeys(_problems(resource, operation)):
        by_status.setdefault(PROBLEMS[slug].status, []).append(slug)
    for status, slugs in by_status.items():
        if status not in operation.description.answers:
            # Most are alike: said once, and referred to.
            name = ".".join([str(status), *slugs])
            shared[name] = _problem_answer(status, slugs, schemas)
            yield status, {"$ref": f"#/components/responses/{name}"}


def _problem_answer(status: int, slugs: Sequence[str], schemas: _Schemas) -> dict[str, Any]:
    names = ["X-Request-ID"]
    if status == 401:
        names.append("WWW-Authenticate")
    if all(PROBLEMS[slug].tells_when for slug in slugs):
        names.append("Retry-After")
    if status == PROBLEMS["rate-limited"].status:
        names += ["RateLimit-Policy", "RateLimit"]
    types = [f"urn:fleetwire:problem:{slug}" for slug in slugs]
    narrowed = {"properties": {"type": {"enum": types}, "status": {"const": status}}}
    return {
        "description": "; ".join(f"`{slug}`: {PROBLEMS[slug].title.lower()}" for slug in slugs) + ".",
        "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in names},
        "content": {MEDIA_TYPE: {"schema": {"allOf": [schemas.of(ProblemBody), narrowed]}}},
    }


def _problems(resource: Resource, operation: Operation) -> Iterator[str]:
    """Every problem that the operation may be answered with."""
    description = operation.description
    yield "invalid-request"
    if resource.path_names or description.query:
        yield "invalid-parameter"
    if operation.scopes:
        yield "unauthorized"
        yield "forbidden"
        yield "too-many-requests"
        if operation.cost > 0:
            yield "rate-limited"
    if operation.body is not None:
        yield from ("invalid-body", "request-timeout", "too-large", "unsupported-media-type")
    if operation.idempotency is not None:
        yield from ("in-progress", "idempotency-key-reused", "keys-spent")
    yield from description.problems
    yield from ("internal-error", "unavailable")
