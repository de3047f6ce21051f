"""The device socket as an AsyncAPI 3 document, made from the types that hub and SDK decode with.

`python -m infra.asyncapi > docs/asyncapi.json` writes it (a test compares). Specification: AsyncAPI 3.0.0, with the
WebSockets binding 0.1.0.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from shared.protocol import frames, operations
from shared.protocol.close_codes import CloseCode, how_to_return
from shared.protocol.frames import INBOUND_MAX_BYTES, SUBPROTOCOL
from shared.protocol.operations import OPERATIONS_MAX

__all__ = ["document"]

FROM_HUB: Final = (
    frames.Welcome,
    frames.Reset,
    frames.Event,
    frames.Notice,
    frames.Moved,
    frames.SyncResult,
    frames.TokenOk,
    frames.ErrorFrame,
)
FROM_DEVICE: Final = (frames.Ack, frames.Token, frames.Sync)

# The query of the handshake; `hub/greeting.py` reads it.
_QUERY: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["device_id"],
    "properties": {
        "device_id": {
            "type": "string",
            "pattern": "^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$",
            "description": "The device; the same as the token's subject. Without any escape.",
        },
        "after": {
            "type": "string",
            "pattern": "^[0-9]+:[0-9]+$",
            "description": "epoch:seq of the last event the device is done with; omitted, the acked position.",
        },
        "instance": {"type": "string", "format": "uuid", "description": "The run of the client."},
        "attempt": {"type": "integer", "minimum": 0, "description": "Rises with each try of that run."},
        "hub": {"type": "string", "description": "The hub's name, as the assignment gave it; for the proxy."},
    },
}
_SCHEMA_REF: Final = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """The document as JSON values."""
    _, schemas = msgspec.json.schema_components([*FROM_HUB, *FROM_DEVICE], ref_template=_SCHEMA_REF)
    _describe_operations(schemas)
    socket = "#/channels/socket"
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fleetwire device socket",
            "version": SUBPROTOCOL,
            "description": (
                "One JSON object with `type` in each text frame. The first frame from the hub is `welcome`. "
                "docs/protocol.md says what each means and in which order they come."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "hub": {
                "host": "{host}",
                "protocol": "wss",
                "description": "What the API's connection resource names for the device.",
                "variables": {"host": {"default": "127.0.0.1:8101"}},
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            }
        },
        "channels": {
            "socket": {
                "address": "/v1/socket",
                "description": (
                    f"WebSocket, subprotocol `{SUBPROTOCOL}`. A device's frame is at most {INBOUND_MAX_BYTES} bytes."
                ),
                "messages": {
                    _name(frame): {"$ref": f"#/components/messages/{_name(frame)}"}
                    for frame in (*FROM_HUB, *FROM_DEVICE)
                },
                "bindings": {"ws": {"method": "GET", "query": _QUERY, "bindingVersion": "0.1.0"}},
                "x-close-codes": {
                    str(int(code)): {
                        "name": code.name.lower(),
                        "reason": code.reason,
                        "return": how_to_return(code).value,
                    }
                    for code in CloseCode
                },
            }
        },
        "operations": {
            "toDevice": _operation("send", "What a hub says.", socket, FROM_HUB),
            "fromDevice": _operation("receive", "What a device says.", socket, FROM_DEVICE),
        },
        "components": {
            "messages": {
                _name(frame): {
                    "name": _name(frame),
                    "summary": schemas[frame.__name__]["description"],
                    "payload": {"$ref": f"#/components/schemas/{frame.__name__}"},
                }
                for frame in (*FROM_HUB, *FROM_DEVICE)
            },
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "A ticket or a device token; from a browser, a second subprotocol `ticket.<jwt>`.",
                }
            },
        },
    }


def _describe_operations(schemas: dict[str, Any]) -> None:
    """What a hub decodes one by one, so that a malformed operation keeps no other out, and a client as it likes."""
    (union, result), described = msgspec.json.schema_components(
        [operations.Operation, operations.OperationResult], ref_template=_SCHEMA_REF
    )
    schemas.update(described)
    schemas["Sync"]["properties"]["operations"] |= {"items": union, "minItems": 1, "maxItems": OPERATIONS_MAX}
    schemas["SyncResult"]["properties"]["results"] |= {"items": result}


def _operation(action: str, summary: str, channel: str, types: Sequence[type]) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": channel},
        "summary": summary,
        "messages": [{"$ref": f"{channel}/messages/{_name(frame)}"} for frame in types],
    }


def _name(frame: type) -> str:
    tag: str = frame.__struct_config__.tag  # type: ignore[attr-defined]
    return tag


if __name__ == "__main__":
    sys.stdout.write(json.dumps(document(), indent=2) + "\n")
