import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.inputs import Query, bearer_token, check_json_content, sane_request_id, uuid_of
from api.problems import Problem


@given(st.binary(max_size=60))
def test_any_query_string_is_read_or_refused_as_a_problem(raw: bytes) -> None:
    try:
        query = Query(raw, {"limit", "after"})
        query.integer("limit", default=1, low=1, high=9)
        query.position("after")
    except Problem as problem:
        if problem.kind.status != 400:
            raise


@pytest.mark.parametrize(
    "raw", [b"limit=0", b"limit=10", b"limit=", b"limit=+5", b"limit=5_0", b"limit=%205", b"limit=0x5"]
)
def test_only_plain_numbers_in_range_are_integers(raw: bytes) -> None:
    with pytest.raises(Problem) as caught:
        Query(raw, {"limit", "after"}).integer("limit", default=1, low=1, high=9)
    assert caught.value.members == {"field": "limit"}


def test_a_query_with_too_many_fields_is_refused() -> None:
    with pytest.raises(Problem):
        Query(b"&".join(b"f%d=1" % n for n in range(100)), set())


def test_a_parameter_that_is_not_in_the_document_cannot_be_read() -> None:
    with pytest.raises(AssertionError, match="declare the query parameter limit"):
        Query(b"limit=1", {"after"}).text("limit")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([b"abc-1.2_3"], "abc-1.2_3"),
        ([b"x" * 64], "x" * 64),
        ([b"x" * 65], None),
        ([b""], None),
        ([b"a", b"b"], None),
        ([b"a b"], None),
        ([b"a\r\nSet-Cookie: b"], None),
        ([b"\xe4"], None),
    ],
)
def test_only_a_sane_request_id_is_taken_over(values: list[bytes], expected: str | None) -> None:
    assert sane_request_id(values) == expected


@pytest.mark.parametrize(
    ("values", "expected"),
    [([], ""), ([b"Bearer abc"], "abc"), ([b"bearer  abc "], "abc"), ([b"Basic abc"], ""), ([b"abc"], "")],
)
def test_the_token_is_what_follows_bearer(values: list[bytes], expected: str) -> None:
    assert bearer_token(values) == expected


def test_two_authorization_headers_are_refused() -> None:
    with pytest.raises(Problem) as caught:
        bearer_token([b"Bearer a", b"Bearer b"])
    assert caught.value.slug == "invalid-request"


@pytest.mark.parametrize(
    "headers",
    [
        {b"content-type": [b"application/json"]},
        {b"content-type": [b'Application/JSON; Charset="UTF-8"']},
        {b"content-type": [b"application/json"], b"content-encoding": [b"identity"]},
    ],
)
def test_json_is_taken(headers: dict[bytes, list[bytes]]) -> None:
    check_json_content(headers)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {b"content-type": [b"text/plain"]},
        {b"content-type": [b"application/json; charset=latin-1"]},
        {b"content-type": [b"application/json"], b"content-encoding": [b"br"]},
        {b"content-type": [b"application/json"], b"content-encoding": [b"gzip, gzip"]},
        {b"content-type": [b"application/json"], b"content-encoding": [b"gzip", b"identity"]},
        {b"content-type": [b"application/json", b"text/plain"]},
        {b"content-type": [b"application/problem+json"]},
    ],
)
def test_everything_else_is_not(headers: dict[bytes, list[bytes]]) -> None:
    with pytest.raises(Problem) as caught:
        check_json_content(headers)
    assert caught.value.slug == "unsupported-media-type"


@given(st.uuids())
def test_a_uuid_is_taken_in_one_spelling_only(value: object) -> None:
    assert uuid_of(str(value), "file_id") == value
    for other in (str(value).replace("-", ""), f"{{{value}}}", f"urn:uuid:{value}", str(value) + "\n"):
        with pytest.raises(Problem):
            uuid_of(other, "file_id")
