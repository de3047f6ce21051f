from uuid import UUID, uuid4

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.protocol.ids import file_name_problem
from worker.handlers.contract import Answer
from worker.response_document import (
    CARRIED_MAX_BYTES,
    DOCUMENT_MAX_BYTES,
    DocumentFile,
    InvalidDocument,
    RequestPart,
    ResponseDocument,
    carried,
    decode,
    document_of,
    encode,
    name_of_attempt,
)

JOB = UUID("01900000-0000-7000-8000-000000000001")
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(), lambda v: st.lists(v, max_size=4)
)
files = st.builds(
    DocumentFile,
    name=st.from_regex(r"[a-z]{1,8}\.txt", fullmatch=True).filter(lambda name: name != "response.json"),
    size=st.integers(0, 2**40),
    sha256=st.just("a" * 64),
    content_type=st.just("text/plain"),
)


def document(**changes: object) -> ResponseDocument:
    given: dict[str, object] = {
        "job_id": JOB, "device_id": "d1", "request": RequestPart("a.csv", 1, "0" * 64), "handler": "table",
        "answer": Answer("processed"), "files": [], "finished_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    return document_of(**{**given, **changes})  # type: ignore[arg-type]


@given(st.dictionaries(st.text(max_size=8), plain, max_size=5), st.lists(files, max_size=5, unique_by=lambda f: f.name))
def test_what_is_written_is_read_back(summary: dict[str, object], named: list[DocumentFile]) -> None:
    written = document(answer=Answer("processed", "fine", summary=summary), files=named)
    assert decode(encode(written), job_id=JOB) == written


@given(st.dictionaries(st.text(max_size=8), plain, max_size=5), st.lists(files, max_size=1))
def test_an_event_carries_an_answer_only_without_files_and_up_to_a_bound(
    summary: dict[str, object], named: list[DocumentFile]
) -> None:
    written = document(answer=Answer("processed", "fine", summary=summary), files=named)
    told = carried(written)
    if told is None:
        assert named or len(msgspec.json.encode(summary)) > CARRIED_MAX_BYTES - 200
    else:
        assert not named
        assert told == {"handler": "table", "outcome": "processed", "detail": "fine", "summary": summary}
        assert len(msgspec.json.encode(told)) <= CARRIED_MAX_BYTES


def test_what_a_handler_put_into_its_summary_is_carried_as_plain_json() -> None:
    told = carried(document(answer=Answer("processed", summary={"id": JOB, "by": {1: "one"}})))
    assert told is not None
    assert told["summary"] == {"id": str(JOB), "by": {"1": "one"}}


def test_a_long_summary_is_not_indented_beyond_the_bound() -> None:
    summary = {"rows": [[1]] * 15_000}
    assert len(encode(document(answer=Answer("processed", summary=summary)))) <= DOCUMENT_MAX_BYTES


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"", "no response document"),
        (b"[1]", "no response document"),
        (b"[" * 100_000, "no response document"),
        (encode(document()).replace(b'"version": 1', b'"version": 2'), "version 2"),
        (encode(document(job_id=uuid4())), "another job"),
        (encode(document(files=[DocumentFile("a", 1, "a" * 64, "x"), DocumentFile("A", 1, "a" * 64, "x")])), "twice"),
        (encode(document(files=[DocumentFile("Response.json", 1, "a" * 64, "x")])), "twice"),
        (encode(document(files=[DocumentFile("../a", 1, "a" * 64, "x")])), "path component"),
        (encode(document(files=[DocumentFile("a", -1, "a" * 64, "x")])), "makes no sense"),
        (encode(document(files=[DocumentFile("a", 1, "a", "x")])), "makes no sense"),
        (encode(document(files=[DocumentFile(f"f{n}", 1, "a" * 64, "x") for n in range(40)])), "40 files"),
    ],
)
def test_what_this_job_did_not_write_is_refused(text: bytes, words: str) -> None:
    with pytest.raises(InvalidDocument, match=words):
        decode(text, job_id=JOB)


@given(st.text(min_size=1, max_size=200).filter(lambda name: file_name_problem(name) is None), st.integers(1, 10**9))
def test_the_name_of_an_attempt_is_legal_and_its_own(name: str, token: int) -> None:
    other = name_of_attempt(name, token)
    assert file_name_problem(other) is None
    assert other != name_of_attempt(name, token + 1)
    assert other != name


def test_the_name_of_an_attempt_keeps_the_extension() -> None:
    assert name_of_attempt("photo.jpg", 3) == "photo.t3.jpg"
    assert name_of_attempt("README", 3) == "README.t3"
    assert name_of_attempt(".hidden", 3) == ".hidden.t3"
