import httpx
import msgspec
import pytest

from shared.cloud import errors
from shared.cloud.drive.errors import error_of, is_limit
from shared.cloud.http import Answer


def answer(status: int, reason: str = "", *, location: str = "", **headers: str) -> Answer:
    body = {"error": {"code": status, "message": "m", "errors": [{"reason": reason, "location": location}]}}
    return Answer(
        status,
        httpx.Headers({name.replace("_", "-"): value for name, value in headers.items()}),
        msgspec.json.encode(body),
    )


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        (answer(400, "invalid", location="pageToken"), errors.CursorExpired),
        (answer(400, "invalid", location="q"), errors.Misconfigured),
        (answer(401, "authError"), errors.Misconfigured),
        (answer(403, "userRateLimitExceeded"), errors.RateLimited),
        (answer(403, "rateLimitExceeded"), errors.RateLimited),
        (answer(403, "dailyLimitExceeded"), errors.RateLimited),
        (answer(403, "storageQuotaExceeded"), errors.StoreFull),
        (answer(403, "teamDriveFileLimitExceeded"), errors.StoreFull),
        (answer(403, "insufficientFilePermissions"), errors.Misconfigured),
        (answer(404, "notFound"), errors.NotFound),
        (answer(409, "fileIdInUse"), errors.NameTaken),
        (answer(410), errors.CursorExpired),
        (answer(416), errors.ContentChanged),
        (answer(429, "rateLimitExceeded"), errors.RateLimited),
        (answer(500), errors.StoreUnavailable),
        (answer(503, "backendError"), errors.StoreUnavailable),
        (Answer(418, httpx.Headers(), b"<html>"), errors.StoreUnavailable),
        (Answer(403, httpx.Headers(), b'{"error": "access_denied"}'), errors.Misconfigured),
    ],
)
def test_each_answer_has_its_error(told: Answer, kind: type[Exception]) -> None:
    assert type(error_of(told, "drive", "files.get")) is kind


def test_a_list_tells_a_folder_that_is_gone_from_a_drive_that_is() -> None:
    gone = error_of(answer(404, "notFound", location="fileId"), "drive", "files.list")
    lost = error_of(answer(404, "notFound", location="driveId"), "drive", "files.list")
    assert (type(gone), type(lost)) == (errors.NotFound, errors.Misconfigured)


def test_a_limit_says_when_to_come_back() -> None:
    soon = error_of(answer(429, retry_after="7"), "drive", "files.get")
    unsaid = error_of(answer(403, "userRateLimitExceeded"), "drive", "files.get")
    tomorrow = error_of(answer(403, "dailyLimitExceeded"), "drive", "files.get")
    waits = [one.retry_after_s for one in (soon, unsaid, tomorrow) if isinstance(one, errors.RateLimited)]
    assert waits == [7, 5, 900]


def test_only_a_short_limit_is_waited_for_by_a_single_request() -> None:
    assert is_limit(answer(403, "userRateLimitExceeded"))
    assert not is_limit(answer(403, "dailyLimitExceeded"))
    assert not is_limit(answer(403, "insufficientFilePermissions"))


def test_an_error_repeats_no_more_than_a_reason() -> None:
    said = str(error_of(answer(403, "x" * 5000), "drive", "files.get"))
    assert len(said) < 300
