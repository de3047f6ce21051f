"""Sync batches."""

from typing import Annotated, Any, Final, get_args

from msgspec import Meta, Struct

from api.description import Answer, Description
from shared.protocol.operations import OPERATIONS_MAX, Operation, SyncResults

__all__ = ["SYNC", "Batch"]

_OPERATIONS: Final = get_args(Operation)


class Batch(Struct, frozen=True, forbid_unknown_fields=True):
    """Operations in the order in which they happened. One that is none of these is refused alone."""

    operations: Annotated[
        list[dict[str, Any]],
        Meta(
            min_length=1,
            max_length=OPERATIONS_MAX,
            extra_json_schema={
                "items": {
                    "anyOf": [
                        *({"$ref": f"#/components/schemas/{operation.__name__}"} for operation in _OPERATIONS),
                        {"type": "object"},
                    ]
                }
            },
        ),
    ]


SYNC: Final = Description(
    id="syncBatch",
    summary="Apply what was done while away",
    about="Each operation is judged by itself: the answer is 200 also when none was applied. A socket takes the same.",
    answers={200: Answer("A result for each.", SyncResults)},
    problems=("keys-spent",),
    body_kind=Batch,
    mentions=_OPERATIONS,
    body_example={
        "operations": [
            {
                "op_id": "0198b7c2-0000-7000-8000-000000000001",
                "type": "inspection.create",
                "entity_id": "0198b7c2-0000-7000-8000-000000000002",
                "data": {
                    "template_id": "0198b7c2-0000-7000-8000-0000000000c1",
                    "title": "Truck 7, morning",
                    "answers": {"lights": "ok"},
                },
            },
            {
                "op_id": "0198b7c2-0000-7000-8000-000000000003",
                "type": "inspection.submit",
                "entity_id": "0198b7c2-0000-7000-8000-000000000002",
                "base_version": 1,
            },
        ]
    },
)
