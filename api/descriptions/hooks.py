"""Calls of cloud providers."""

from typing import Annotated, Final

from msgspec import Meta

from api.description import Answer, Description, Parameter
from api.hook_calls import GraphCall, S3Call

__all__ = ["DRIVE_HOOK", "GRAPH_HOOK", "S3_HOOK"]

_TAKEN: Final = Answer("Taken. What changed is found out from the provider.")

GRAPH_HOOK: Final = Description(
    id="graphHook",
    summary="Microsoft Graph says that a drive changed",
    about="Believed by the `clientState` of its subscription. One answer is for all notifications of a call: it is "
    "refused when none of them is believed.",
    query=(
        Parameter(
            name="validationToken",
            kind=Annotated[
                str, Meta(extra_json_schema={"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$", "maxLength": 4096})
            ],
            about="Graph asks whether this address is ours: the token is the answer, and there is no body.",
            example="Validation: 2c0d3f8a",
        ),
    ),
    answers={200: Answer("The token.", str, media_type="text/plain"), 202: _TAKEN},
    problems=("hook-refused",),
    body_kind=GraphCall,
    body_example={"value": []},
)
DRIVE_HOOK: Final = Description(
    id="driveHook",
    summary="Google Drive says that a corpus changed",
    about="Everything is said in headers. Believed by the token of its channel.",
    headers=("X-Goog-Channel-ID", "X-Goog-Channel-Token", "X-Goog-Message-Number", "X-Goog-Resource-State"),
    answers={202: _TAKEN},
    problems=("hook-refused",),
)
S3_HOOK: Final = Description(
    id="s3Hook",
    summary="A bridge says that objects of the bucket changed",
    about="Takes the records of a bucket's notification and the events of EventBridge. Believed by the secret in a "
    "header, or by a signature made with it.",
    headers=("Fleetwire-Hook-Secret", "Fleetwire-Hook-Signature"),
    answers={202: _TAKEN},
    problems=("hook-refused",),
    body_kind=S3Call,
    body_example={
        "Records": [
            {
                "eventName": "ObjectCreated:Put",
                "s3": {"bucket": {"name": "fleet"}, "object": {"key": "Requests/truck-7/load.csv", "size": 10}},
            }
        ]
    },
)
