"""The table from Graph's answers to the errors of the port."""

import json

import httpx
import pytest

from shared.cloud.errors import (
    CloudError,
    ContentChanged,
    CursorExpired,
    Misconfigured,
    NameTaken,
    NotFound,
    RateLimited,
    StoreFull,
    StoreUnavailable,
)
from shared.cloud.graph.errors import error_of
from shared.cloud.http import Answer

URL = "https://graph.example/v1.0/x"


def answer(status: int, code: str | None = None, inner: str | None = None, **headers: str) -> Answer:
    error = {"code": code, "message": "whatever"} | ({"innerError": {"code": inner}} if inner else {})
    body = json.dumps({"error": error}).encode() if code is not None else b"<html>"
    return Answer(status, httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}), body, URL)


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "invalidRequest", Misconfigured),
        (401, "InvalidAuthenticationToken", Misconfigured),
        (403, "accessDenied", Misconfigured),
        (404, "itemNotFound", NotFound),
        (409, "nameAlreadyExists", NameTaken),
        (410, "resyncChangesApplyDifferences", CursorExpired),
        (410, "anything", CursorExpired),
        (412, "resourceModified", ContentChanged),
        (416, "invalidRange", ContentChanged),
        (423, "resourceLocked", StoreUnavailable),
        (429, "activityLimitReached", RateLimited),
        (500, None, StoreUnavailable),
        (503, "serviceNotAvailable", StoreUnavailable),
        (507, "quotaLimitReached", StoreFull),
        (403, "quotaLimitReached", StoreFull),
        (302, None, StoreUnavailable),
    ],
)
def test_every_answer_has_its_error(status: int, code: str | None, kind: type[CloudError]) -> None:
    error = error_of(answer(status, code), "sharepoint", "a/b")
    assert type(error) is kind
    assert str(error).startswith(f"sharepoint: a/b: answered {status}")


def test_retry_after_is_heeded_with_429_and_503_alike() -> None:
    for status in (429, 503):
        error = error_of(answer(status, "x", retry_after="17"), "sharepoint", "a")
        assert isinstance(error, RateLimited)
        assert error.retry_after_s == 17


def test_a_resync_says_where_to_begin_and_is_known_by_its_inner_code() -> None:
    error = error_of(
        answer(400, "badRequest", "resyncChangesUploadDifferences", location=f"{URL}?token=1"), "sharepoint", "delta"
    )
    assert isinstance(error, CursorExpired)
    assert error.restart == f"{URL}?token=1"


def test_what_is_set_up_wrongly_says_where_to_look() -> None:
    assert "FLEETWIRE_GRAPH_" in str(error_of(answer(403, "accessDenied"), "sharepoint", "a"))
