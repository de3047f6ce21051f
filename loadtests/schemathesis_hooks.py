"""What schemathesis has to know of this API that a schema cannot say: loaded by it, not imported by us.

Strings with a format of ours are made, not guessed. A request that is meant to be right is mended where a rule goes
beyond the schema of one value: what does not go together, bytes instead of characters, integers of at most 64 bits. A
request that is meant to be wrong goes out as it was made.
"""

import uuid
from collections.abc import Callable
from datetime import datetime
from string import ascii_lowercase, digits
from typing import Any

import schemathesis
from hypothesis import strategies as st

_PLAIN = ascii_lowercase + digits

schemathesis.openapi.format(
    "fleetwire-device-id", st.one_of(st.just("truck-7"), st.text(_PLAIN, min_size=5, max_size=20))
)
schemathesis.openapi.format("fleetwire-position", st.integers(0, 9).map("1:{}".format))
schemathesis.openapi.format("fleetwire-file-name", st.text(_PLAIN + " .-", min_size=1, max_size=40).map("f{}".format))


@schemathesis.hook
def before_call(context: Any, case: Any, **_: Any) -> None:
    """Before each request."""
    del context
    if str((case.query or {}).get("wait", "0")).isdigit():
        (case.query or {}).pop("wait", None)  # it would only take long
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    name = case.operation.definition.raw.get("operationId")
    for parameter, value in (case.path_parameters or {}).items():
        if parameter != "device_id" and len(str(value)) != 36:
            case.path_parameters[parameter] = str(uuid.uuid4())  # a link took a piece of an address for an id
    if case.query:
        _mend_query(case.query)
        if name == "listJobs":
            _mend_jobs(case.query)
        if name in ("listInspections", "readInspection"):
            for flawed in case.query.keys() - {"status", "limit", "created_from"}:
                case.query.pop(flawed)
    if isinstance(case.body, dict):
        case.body = _plain(case.body)
        if (mend := _BODIES.get(name)) is not None:
            mend(case.body)


def _mend_query(query: Any) -> None:
    query.pop("cursor", None)  # none of a page
    if "after" in query:
        query["after"] = "1:0"  # the one that every log has given
    for name in ("created_from", "created_to", "submitted_from", "submitted_to"):
        if name in query and not 1970 <= _year(query[name]) <= 9998:
            query.pop(name)
    for name, most in (("name_prefix", 200), ("kind", 64)):
        if len(str(query.get(name, "")).encode(errors="ignore")) > most:
            query.pop(name)


def _mend_jobs(query: Any) -> None:
    """Leave out what the rest does not go with."""
    if "name_prefix" in query or query.get("sort") == "name":
        for name in ("name_prefix", "sort"):
            query.pop(name, None)
    if {"status", "kind", "device_id"} <= query.keys():
        query.pop("kind")
    if {"created_from", "created_to"} <= query.keys():
        query.pop("created_to")


def _mend_ack(body: Any) -> None:
    if not _is_position(body.get("position")):
        body["position"] = "1:0"


def _mend_photo(body: Any) -> None:
    body |= {"content_type": "image/jpeg", "name": "load.jpg", "size": min(body["size"], 2**30)}
    # The one of the examples is another photo.
    body["photo_id"] = str(uuid.uuid4())
    body["inspection_id"] = None


def _mend_job(body: Any) -> None:
    body["data"] = str(body["data"])[:1000].replace("\x00", "").encode(errors="replace").decode()
    body["name"] = "load.csv" if len(str(body["name"]).encode(errors="replace")) > 200 else body["name"]


def _mend_schedule(body: Any) -> None:
    # Either of the two, and a zone that there is; the rest as a job has it.
    body |= {"cron": "30 6 * * MON-FRI", "timezone": "UTC", "device_ids": ["truck-7"]}
    body.pop("every_s", None)
    _mend_job(body)


def _mend_revocation(body: Any) -> None:
    body.pop("issued_before", None)
    body.pop("expires_at", None)
    body.pop("subject", None)
    body |= {"device_id": "truck-of-nobody", "token_id": "token-1", "reason": "sold"}


def _mend_inspection(body: Any) -> None:
    body.setdefault("title", "Truck 7")
    _mend_name(body)


def _mend_note(body: Any) -> None:
    if isinstance(body.get("note"), str):
        body["note"] = _printable(body["note"])


def _mend_name(body: Any) -> None:
    for name in ("name", "title"):
        if isinstance(body.get(name), str):
            body[name] = _printable(body[name])


def _mend_notice(body: Any) -> None:
    if isinstance(body.get("id"), str):
        body["id"] = _printable(body["id"])[:100]


_BODIES: dict[str, Callable[[Any], None]] = {
    "ack": _mend_ack,
    "photoUploadParams": _mend_photo,
    "postJob": _mend_job,
    "putSchedule": _mend_schedule,
    "revoke": _mend_revocation,
    "createTemplate": _mend_name,
    "changeTemplate": _mend_name,
    "notify": _mend_notice,
    "createInspection": _mend_inspection,
    "updateInspection": _mend_inspection,
    "approveInspection": _mend_note,
    "rejectInspection": _mend_note,
}


def _plain(value: Any) -> Any:
    """The same without numbers and characters that two readers might take differently."""
    if isinstance(value, dict):
        return {_text(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return max(-(2**63), min(value, 2**63 - 1)) if type(value) is int else value


def _text(text: str) -> str:
    return text.encode(errors="replace").decode()


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "x" for character in text).strip() or "x"


def _is_position(text: Any) -> bool:
    epoch, _, seq = str(text).partition(":")
    return epoch.isdigit() and seq.isdigit() and 1 <= int(epoch) < 2**31 and int(seq) < 2**53


def _year(text: Any) -> int:
    try:
        return datetime.fromisoformat(str(text)).year
    except ValueError:
        return 0
