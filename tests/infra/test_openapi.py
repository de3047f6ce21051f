"""docs/openapi.json is what the routes and their types say, whole and without a loose end."""

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from api.description import Answer, Description, undescribed
from api.problems import PROBLEMS
from api.resource import Operation, Resource
from infra.openapi import published, resources

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


@cache
def said() -> dict[str, Any]:
    return published()


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, methods in said()["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_the_document_in_docs_is_the_one_the_routes_make() -> None:
    hint = "write it anew: python -m infra.openapi > docs/openapi.json"
    assert json.loads(FILE.read_text("utf-8")) == said(), hint


def test_every_method_of_every_path_is_in_it() -> None:
    declared = {
        f"{method} {resource.template}"
        for resource in resources()
        for method, operation in resource.operations.items()
        if method != "HEAD" and operation.description.listed
    }
    assert {name for name, _ in operations()} == declared


def test_every_reference_leads_somewhere() -> None:
    found = list(_references(said()))
    assert found
    for reference in found:
        place: Any = said()
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_names_are_given_once_and_are_fit_for_generated_clients() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert len(set(names)) == len(names)
    for name in [*names, *said()["components"]["schemas"]]:
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9]*", name), f"{name}: two types of one name, or a private one"


def test_every_type_says_what_it_is_for() -> None:
    silent = [name for name, schema in said()["components"]["schemas"].items() if not schema.get("description")]
    assert silent == []


def test_every_operation_has_what_an_example_request_needs() -> None:
    for name, operation in operations():
        for parameter in operation.get("parameters", []):
            assert "example" in parameter or not parameter.get("required"), f"{name}: {parameter['name']}"
        if "requestBody" in operation:
            assert "example" in operation["requestBody"]["content"]["application/json"], name


def test_every_operation_with_scopes_says_how_it_is_refused() -> None:
    for name, operation in operations():
        assert bool(operation["security"]) == ("401" in operation["responses"]), name
        assert {"400", "500", "503"} <= operation["responses"].keys(), name


def test_problems_are_said_with_their_status_and_nothing_else() -> None:
    for name in said()["components"]["responses"]:
        status, *slugs = name.split(".")
        assert slugs
        assert {PROBLEMS[slug].status for slug in slugs} == {int(status)}


@pytest.mark.parametrize(
    ("description", "missing"),
    [
        (Description(id="x", summary="x", answers={}), "declare an answer"),
        (Description(id="x", summary="x", answers={200: Answer("x")}, problems=("no-such",)), "no problem no-such"),
        (Description(id="x", summary="x", answers={200: Answer("x")}, headers=("X-New",)), "request header X-New"),
        (Description(id="x", summary="x", answers={200: Answer("x", headers=("X-New",))}), "the header X-New"),
    ],
)
def test_an_operation_that_is_not_described_whole_cannot_be_built(description: Description, missing: str) -> None:
    assert missing in (undescribed(description, frozenset()) or "")
    operation = Operation(None, description=description)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=f"GET /x is not described whole: .*{missing}"):
        Resource(None, "/x", {"GET": operation})  # type: ignore[arg-type]


def test_a_parameter_of_a_path_has_to_be_described() -> None:
    description = Description(id="x", summary="x", answers={200: Answer("x")})
    operation = Operation(None, description=description)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="path parameter thing_id in PATH_PARAMETERS"):
        Resource(None, "/x/{thing_id}", {"GET": operation})  # type: ignore[arg-type]


def test_an_operation_without_a_description_cannot_be_built() -> None:
    with pytest.raises(TypeError, match="description"):
        Operation(None)  # type: ignore[call-arg,arg-type]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
