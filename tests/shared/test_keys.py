"""Where keys come from, and that what is wrong with them is said without showing them."""

import base64
import json
from pathlib import Path

import pytest

from shared.keys import FilesKeySettings, TicketKeySettings, TokenKeySettings, read_hmac_keys, read_key_ring
from shared.settings import SettingsError, load

SECRET = base64.urlsafe_b64encode(b"0123456789abcdef0123456789abcdef").decode().rstrip("=")
SET = json.dumps({"keys": [{"kty": "oct", "kid": "dev", "alg": "HS256", "k": SECRET}]})


def test_a_key_set_is_read_from_a_file_or_inline(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(SET)
    assert read_key_ring(file, None).key_ids == read_key_ring(None, SET).key_ids == {"dev"}


def test_settings_name_their_variables_and_keep_secrets_out_of_repr(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(SET)
    tokens = load(TokenKeySettings, {"FLEETWIRE_TOKEN_KEYS": SET})
    assert tokens.token_key_ring().signing_key_id == "dev"
    assert SECRET not in repr(tokens)
    assert load(TicketKeySettings, {"FLEETWIRE_TICKET_KEYS_FILE": str(file)}).ticket_key_ring().key_ids == {"dev"}
    assert load(FilesKeySettings, {"FLEETWIRE_FILES_KEYS": SET}).files_hmac_keys() == {
        "dev": b"0123456789abcdef0123456789abcdef"
    }


@pytest.mark.parametrize(
    ("settings", "variable"),
    [
        (lambda: TokenKeySettings().token_key_ring(), "FLEETWIRE_TOKEN_KEYS"),
        (lambda: TicketKeySettings().ticket_key_ring(), "FLEETWIRE_TICKET_KEYS"),
        (lambda: FilesKeySettings().files_hmac_keys(), "FLEETWIRE_FILES_KEYS"),
    ],
)
def test_keys_that_are_not_set_are_asked_for_by_name(settings: object, variable: str) -> None:
    with pytest.raises(SettingsError, match=f"{variable}_FILE is not set"):
        settings()  # type: ignore[operator]


def test_both_a_file_and_inline_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="both set"):
        read_key_ring(tmp_path / "keys.json", SET)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"gone\.json.*No such file"):
        read_key_ring(tmp_path / "gone.json", None)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"x" * 70_000, b"{}", b"[]", b"not json"])
def test_a_file_that_holds_no_key_set_is_named_without_its_content(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    with pytest.raises(SettingsError, match="FLEETWIRE_TOKEN_KEYS_FILE") as refused:
        read_key_ring(file, None)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ([], "no key"),
        (["x"], "not a JSON object"),
        ([{"kty": "oct", "k": SECRET}], "needs a kid"),
        ([{"kty": "RSA", "kid": "a", "k": SECRET}], "kty oct"),
        ([{"kty": "oct", "kid": "a"}], "kty oct"),
        ([{"kty": "oct", "kid": "a", "k": "c2hvcnQ"}], "at least 32"),
        ([{"kty": "oct", "kid": "a", "k": "*" * 60}], "base64url"),
        ([{"kty": "oct", "kid": "a", "k": SECRET}] * 2, "twice"),
    ],
)
def test_a_signing_secret_that_will_not_do_is_explained_and_not_shown(keys: list[object], what: str) -> None:
    with pytest.raises(SettingsError, match=what) as refused:
        read_hmac_keys(None, json.dumps({"keys": keys}))
    assert SECRET not in str(refused.value)


def test_the_order_of_signing_secrets_is_kept() -> None:
    keys = [{"kty": "oct", "kid": kid, "k": SECRET} for kid in ("old", "new")]
    assert list(read_hmac_keys(None, json.dumps({"keys": keys}))) == ["old", "new"]
