"""What becomes of a file, given what the ledger knows."""

import json
from dataclasses import replace
from uuid import UUID

import pytest

from shared.store.items import Facts
from watcher.pacing import FileStat
from watcher.places import Place, locate
from watcher.translate import Seen, Verdict, content_type_of, judge, kind_of, response_ready

STAT = FileStat(11, 7, 99)
UNKNOWN = Facts(None, None, None, None, None, device_known=True, reserved=False)


def seen(path: str = "Requests/truck-7/a.csv") -> Seen:
    place = locate(path)
    assert isinstance(place, Place)
    return Seen(place, STAT, "hash-1", live=True)


def known(state: str, version: str = "hash-1") -> Facts:
    return UNKNOWN._replace(content_version=version, state=state, inode=11, size=7, mtime_ns=99)  # type: ignore[arg-type]


RESPONSE = "Responses/truck-7/report.pdf"


def test_a_file_never_recorded_is_announced() -> None:
    assert judge(seen(), UNKNOWN, in_baseline=False) is Verdict.ANNOUNCED


def test_content_that_is_recorded_is_not_announced_again() -> None:
    assert judge(seen(), known("announced"), in_baseline=False) is Verdict.UNCHANGED


def test_a_touched_file_only_updates_the_ledger() -> None:
    touched = replace(seen(), stat=STAT._replace(mtime_ns=100))
    assert judge(touched, known("announced"), in_baseline=False) is Verdict.TOUCHED


def test_other_content_under_the_same_path_is_announced() -> None:
    assert judge(seen(), known("announced", "hash-0"), in_baseline=False) is Verdict.ANNOUNCED


def test_the_same_content_put_again_after_a_removal_is_announced() -> None:
    assert judge(replace(seen(), fresh=True), known("announced"), in_baseline=False) is Verdict.ANNOUNCED


def test_a_file_of_an_unknown_device_waits_and_is_announced_when_the_device_exists() -> None:
    nobody = UNKNOWN._replace(device_known=False)
    assert judge(seen(), nobody, in_baseline=False) is Verdict.WAITING
    waiting = known("waiting")
    assert judge(seen(), waiting._replace(device_known=False), in_baseline=False) is Verdict.UNCHANGED
    assert judge(seen(), waiting, in_baseline=False) is Verdict.ANNOUNCED


@pytest.mark.parametrize("facts", [UNKNOWN, known("announced", "hash-0"), UNKNOWN._replace(device_known=False)])
def test_what_lies_in_a_jobs_folder_is_never_announced(facts: Facts) -> None:
    assert judge(seen(RESPONSE), facts._replace(reserved=True), in_baseline=False) is Verdict.RESERVED


def test_a_reservation_says_nothing_about_requests() -> None:
    assert judge(seen(), UNKNOWN._replace(reserved=True), in_baseline=False) is Verdict.ANNOUNCED


def test_the_first_scan_takes_responses_for_older_than_itself_and_requests_not() -> None:
    found = replace(seen(RESPONSE), live=False, baseline=True)
    assert judge(found, UNKNOWN, in_baseline=True) is Verdict.BASELINE
    assert judge(replace(seen(), live=False, baseline=True), UNKNOWN, in_baseline=True) is Verdict.ANNOUNCED


def test_a_response_that_arrives_during_the_first_scan_is_announced_although_the_scan_saw_it_first() -> None:
    assert judge(seen(RESPONSE), known("baseline"), in_baseline=True) is Verdict.ANNOUNCED
    assert judge(seen(RESPONSE), known("baseline"), in_baseline=False) is Verdict.UNCHANGED


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "photo"),
        ("a.heic", "photo"),
        ("a.HEIF", "photo"),
        ("a.webp", "photo"),
        ("a.gif", "photo"),
        ("b.csv", "table"),
        ("c.ndjson", "table"),
        ("d.pdf", "unknown"),
        ("e", "unknown"),
    ],
)
def test_the_extension_says_the_kind_of_job(name: str, kind: str) -> None:
    assert kind_of(name) == kind


@pytest.mark.parametrize(
    ("name", "content_type"),
    [
        ("a.pdf", "application/pdf"),
        ("b.JPG", "image/jpeg"),
        ("c.tar.gz", "application/octet-stream"),
        ("d", "application/octet-stream"),
    ],
)
def test_the_extension_says_the_media_type(name: str, content_type: str) -> None:
    assert content_type_of(name) == content_type


def test_the_event_names_the_file_by_our_own_address() -> None:
    event = response_ready(
        event_id=UUID(int=1),
        file_id=UUID(int=2),
        time="2026-01-01T00:00:00.000Z",
        name="ü.pdf",
        size=7,
        sha256="f" * 64,
    )
    body = json.loads(event.body)
    assert (body["type"], body["source"], body["id"]) == ("ResponseReady", "/fleetwire/watcher", str(UUID(int=1)))
    (file,) = body["data"]["files"]
    assert file["url"] == f"/api/v1/files/{UUID(int=2)}"
    assert (file["name"], file["size"], file["sha256"]) == ("ü.pdf", 7, "f" * 64)
