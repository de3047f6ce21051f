"""The vectors are of Cloudinary's documentation and of its own client library."""

from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.cloudinary_signature import is_signed_answer, signature

SAMPLE: Final = {
    "public_id": "sample_image",
    "timestamp": "1315060510",
    "eager": "w_400,h_300,c_pad|w_260,h_200,c_crop",
}
OURS: Final = {
    "public_id": "Photos/ab/0190.abcd",
    "type": "private",
    "overwrite": "false",
    "allowed_formats": "jpg",
    "timestamp": "1795334400",
}
SECRET = "a secret"


def test_known_signatures_come_out() -> None:
    assert signature(SAMPLE, "abcd", version=1) == "bfd09f95f331f558cbd1320e67aa8d488770583e"
    assert signature(SAMPLE, "abcd") == signature(SAMPLE, "abcd", version=1), "there is no & in them"
    assert signature(OURS, SECRET) == "aac9e797eb1e044302421958ad891472f1bd2d3e"
    assert (
        signature(OURS, SECRET, algorithm="sha256")
        == "384f0fdc3e9760d81aee02e5bac0833b5dbf05ae39ab712ef2b44ea61584fbd9"
    )


def test_what_is_not_signed_changes_nothing() -> None:
    more = OURS | {"file": "x", "api_key": "1", "resource_type": "image", "cloud_name": "c", "context": ""}
    assert signature(more, SECRET) == signature(OURS, SECRET)


def test_a_value_cannot_pretend_to_be_one_more_parameter() -> None:
    smuggling = {"public_id": "x", "tags": "a&type=upload", "timestamp": "1"}
    two = {"public_id": "x", "tags": "a", "type": "upload", "timestamp": "1"}
    assert signature(smuggling, SECRET, version=1) != signature(smuggling, SECRET)
    assert signature(smuggling, SECRET) != signature(two, SECRET)
    assert signature({"public_id": "x&type=upload", "timestamp": "1"}, SECRET) == (
        "095f7589e0363292704419cc22f093a36e303af6"
    )


@given(st.dictionaries(st.text("ab", min_size=1, max_size=2), st.text("ab&", min_size=1, max_size=4), max_size=3))
def test_other_parameters_have_another_signature(parameters: dict[str, str]) -> None:
    assert signature(parameters, SECRET) != signature(parameters | {"z": "1"}, SECRET)


def test_an_answer_is_signed_by_who_knows_the_secret() -> None:
    given_one = "7985ddf61ef39d53c621a31c165c88a57b3781cf"
    secret = "X7qLTrsES31MzxxkxPPA-pAGGfU"
    assert is_signed_answer("b", 1234, given_one, secret, algorithm="sha1")
    for public_id, version, given_two in (("c", 1234, given_one), ("b", 1, given_one), ("b", 1234, ""), ("b", 1, "ü")):
        assert not is_signed_answer(public_id, version, given_two, secret, algorithm="sha1")
