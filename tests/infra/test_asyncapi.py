"""docs/asyncapi.json is what the types say, whole and without a loose end."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from infra.asyncapi import FROM_DEVICE, FROM_HUB, document
from shared.protocol import frames
from shared.protocol.close_codes import CloseCode

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.json"


def test_the_document_in_docs_is_the_one_the_types_make() -> None:
    hint = "write it anew: python -m infra.asyncapi > docs/asyncapi.json"
    assert json.loads(FILE.read_text("utf-8")) == document(), hint


def test_every_frame_and_every_close_code_is_in_it() -> None:
    said = document()
    declared = {
        frame.__struct_config__.tag
        for frame in vars(frames).values()
        if isinstance(frame, type) and issubclass(frame, msgspec.Struct) and frame.__struct_config__.tag
    }
    assert set(said["components"]["messages"]) == declared
    assert len(FROM_HUB) + len(FROM_DEVICE) == len(declared)
    assert set(said["channels"]["socket"]["x-close-codes"]) == {str(int(code)) for code in CloseCode}


def test_every_reference_leads_somewhere() -> None:
    said = document()
    found = list(_references(said))
    assert found
    for reference in found:
        place: Any = said
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "$ref" in value:
            yield value["$ref"]
        for inner in value.values():
            yield from _references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _references(inner)
