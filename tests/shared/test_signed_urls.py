import base64
import hmac
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.signed_urls import Grant, InvalidSignedUrl, Method, Refused, SignedUrls, host_of, verify

KEYS = {"old": b"o" * 32, "new": b"n" * 32}
BASE = "http://files.example:8090"
HOST = b"files.example:8090"
NOW = 1_795_334_400.5
SHA = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
PATH = "Responses/truck-7/Grüße & 100%.0190/a b.jpg"


def signed(method: Method = "GET", path: str = PATH, lifetime_s: float = 60, size: int = 48213) -> tuple[bytes, bytes]:
    url = SignedUrls(KEYS, BASE).sign(
        method, path, size=size, sha256=SHA, now=NOW, lifetime_s=lifetime_s, content_type="image/jpeg", name="ä.jpg"
    )
    parts = urlsplit(url)
    return parts.path.encode(), parts.query.encode()


def refusal(method: str, host: bytes, path: bytes, query: bytes, now: float = NOW) -> Refused:
    with pytest.raises(InvalidSignedUrl) as caught:
        verify(KEYS, method, host, path, query, now=now)
    return caught.value.reason


def test_what_was_signed_is_what_is_granted() -> None:
    path, query = signed()
    assert verify(KEYS, "GET", HOST, path, query, now=NOW) == Grant(
        method="GET",
        path=PATH,
        size=48213,
        sha256=SHA,
        content_type="image/jpeg",
        name="ä.jpg",
        expires_at=1_795_334_460,
        key_id="new",
    )


def test_the_file_is_offered_under_its_own_name_and_as_bytes_when_nothing_else_was_signed() -> None:
    url = SignedUrls(KEYS, BASE).sign("GET", "a/b c.bin", size=1, sha256=SHA, now=NOW, lifetime_s=9)
    parts = urlsplit(url)
    grant = verify(KEYS, "GET", HOST, parts.path.encode(), parts.query.encode(), now=NOW)
    assert (grant.name, grant.content_type) == ("b c.bin", "application/octet-stream")


def test_a_content_type_that_is_not_safe_in_a_header_is_never_signed() -> None:
    for hostile in ("text/html\r\nSet-Cookie: a=b", "text", "text/html;", 'a/b; c="d"', "x" * 65 + "/y", "a/b\n"):
        url = SignedUrls(KEYS, BASE).sign("GET", "f", size=1, sha256=SHA, now=NOW, lifetime_s=9, content_type=hostile)
        assert "&type=&" in url
    url = SignedUrls(KEYS, BASE).sign(
        "GET", "f", size=1, sha256=SHA, now=NOW, lifetime_s=9, content_type="text/csv; charset=utf-8"
    )
    assert "&type=text%2Fcsv%3B%20charset%3Dutf-8&" in url


def test_an_address_for_get_admits_head_and_nothing_else() -> None:
    path, query = signed("GET")
    assert verify(KEYS, "HEAD", HOST, path, query, now=NOW).method == "GET"
    for method in ("PUT", "POST", "DELETE", "get", ""):
        assert refusal(method, HOST, path, query) == "bad_signature"


def test_an_address_for_put_admits_only_put() -> None:
    path, query = signed("PUT")
    assert verify(KEYS, "PUT", HOST, path, query, now=NOW).method == "PUT"
    for method in ("GET", "HEAD", "POST", "put"):
        assert refusal(method, HOST, path, query) == "bad_signature"


def test_an_address_ends_on_its_second_and_never_lives_longer_than_five_minutes() -> None:
    path, query = signed(lifetime_s=60)
    assert verify(KEYS, "GET", HOST, path, query, now=1_795_334_459.999).expires_at == 1_795_334_460
    assert refusal("GET", HOST, path, query, now=1_795_334_460) == "expired"
    path, query = signed(lifetime_s=300)
    assert verify(KEYS, "GET", HOST, path, query, now=NOW).expires_at == 1_795_334_700
    # A signer whose clock is far ahead, or that knows no bound, is not believed.
    assert refusal("GET", HOST, path, query, now=NOW - 10) == "lives_too_long"
    for lifetime_s in (0, -1, 300.1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="lives for"):
            signed(lifetime_s=lifetime_s)


def test_an_old_key_is_accepted_until_it_leaves_the_set() -> None:
    parts = urlsplit(SignedUrls({"old": KEYS["old"]}, BASE).sign("GET", "f", size=1, sha256=SHA, now=NOW, lifetime_s=9))
    path, query = parts.path.encode(), parts.query.encode()
    assert verify(KEYS, "GET", HOST, path, query, now=NOW).key_id == "old"
    with pytest.raises(InvalidSignedUrl) as caught:
        verify({"new": KEYS["new"]}, "GET", HOST, path, query, now=NOW)
    assert caught.value.reason == "unknown_key"


def test_a_key_of_the_same_name_with_another_secret_is_refused() -> None:
    path, query = signed()
    with pytest.raises(InvalidSignedUrl) as caught:
        verify({"new": b"x" * 32}, "GET", HOST, path, query, now=NOW)
    assert caught.value.reason == "bad_signature"


@given(data=st.data())
def test_any_altered_byte_is_refused(data: st.DataObject) -> None:
    fields = [HOST, *signed()]
    which = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(fields[which]) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != fields[which][at]))
    fields[which] = fields[which][:at] + bytes([byte]) + fields[which][at + 1 :]
    host, path, query = fields
    assert refusal("GET", host, path, query) in ("malformed", "unknown_key", "bad_signature")


@given(data=st.data())
def test_any_byte_added_or_taken_away_is_refused(data: st.DataObject) -> None:
    fields = [HOST, *signed()]
    which = data.draw(st.integers(0, 2))
    at = data.draw(st.integers(0, len(fields[which])))
    if data.draw(st.booleans()) and at < len(fields[which]):
        fields[which] = fields[which][:at] + fields[which][at + 1 :]
    else:
        fields[which] = fields[which][:at] + data.draw(st.binary(min_size=1, max_size=3)) + fields[which][at:]
    host, path, query = fields
    assert refusal("GET", host, path, query) in ("malformed", "unknown_key", "bad_signature")


@given(raw_path=st.binary(max_size=100), raw_query=st.binary(max_size=300), method=st.text(max_size=8))
def test_no_bytes_break_the_check(raw_path: bytes, raw_query: bytes, method: str) -> None:
    for path in (raw_path, b"/v1/files/" + raw_path):
        refusal(method, HOST, path, raw_query)


@given(path=st.text(st.characters(codec="utf-8"), min_size=1, max_size=80), size=st.integers(0, 2**60))
def test_every_path_comes_back_as_it_was_signed(path: str, size: int) -> None:
    raw_path, raw_query = signed("PUT", path, size=size)
    grant = verify(KEYS, "PUT", HOST, raw_path, raw_query, now=NOW)
    assert (grant.path, grant.size) == (path, size)


def test_no_byte_can_move_from_one_field_into_the_next() -> None:
    path, query = signed()
    shifted = query.replace(b"&size=48213&sha256=9", b"&size=482139&sha256=")
    assert shifted != query
    assert refusal("GET", HOST, path, shifted) == "bad_signature"
    assert refusal("GET", HOST + b"/", path[1:], query) == "malformed"
    assert refusal("GET", HOST + path[:4], path[4:], query) == "malformed"


@pytest.mark.parametrize("spelling", ["order", "twice", "extra", "encoded name", "no equals", "missing"])
def test_there_is_one_spelling_of_the_parameters(spelling: str) -> None:
    path, query = signed()
    pairs = query.split(b"&")
    altered = {
        "order": b"&".join([pairs[1], pairs[0], *pairs[2:]]),
        "twice": query + b"&" + pairs[0],
        "extra": query + b"&x=1",
        "encoded name": query.replace(b"key=", b"k%65y="),
        "no equals": query.replace(b"key=new", b"key"),
        "missing": b"&".join(pairs[:-1]),
    }[spelling]
    assert refusal("GET", HOST, path, altered) == "malformed"


def test_what_was_signed_by_a_holder_of_the_key_is_still_checked() -> None:
    def forged(*values: bytes) -> bytes:
        fields = (b"fleetwire file 1", b"GET", HOST, b"/v1/files/f", *values)
        text = b"".join(len(field).to_bytes(4, "big") + field for field in fields)
        import base64

        signature = base64.urlsafe_b64encode(hmac.digest(KEYS["new"], text, "sha256")).rstrip(b"=")
        names = (b"key", b"expires", b"size", b"sha256", b"type", b"name", b"signature")
        return b"&".join(b"%s=%s" % pair for pair in zip(names, (*values, signature), strict=True))

    good = [b"new", b"1795334460", b"1", SHA.encode(), b"", b"f"]
    assert verify(KEYS, "GET", HOST, b"/v1/files/f", forged(*good), now=NOW).size == 1
    for at, bad in (
        (1, b"-1"),
        (1, b"1e9"),
        (1, b"+1795334460"),
        (2, b"01"),
        (2, b""),
        (2, b"-1"),
        (3, b"AB"),
        (4, b"a"),
    ):
        values = [*good]
        values[at] = bad
        assert refusal("GET", HOST, b"/v1/files/f", forged(*values)) == "malformed"
    assert refusal("GET", HOST, b"/v1/files/f", forged(*good[:5], b"%ff")) == "malformed"


def test_the_host_is_what_clients_send_for_the_base_address() -> None:
    for base, host in (
        ("http://127.0.0.1:8090", b"127.0.0.1:8090"),
        ("https://Files.Example/", b"files.example"),
        ("https://files.example:443", b"files.example"),
        ("http://files.example:443", b"files.example:443"),
        ("http://[::1]:8090", b"[::1]:8090"),
    ):
        assert host_of(base) == host
    for bad in (
        "files:8090",
        "ftp://a",
        "http://",
        "http://a/b",
        "http://u@a",
        "http://a?b",
        "http://a#b",
        "http://a:x",
    ):
        with pytest.raises(ValueError, match=r".+"):
            host_of(bad)


def test_a_signer_needs_a_key_and_a_sound_file() -> None:
    with pytest.raises(ValueError, match="no key"):
        SignedUrls({}, BASE)
    signer = SignedUrls(KEYS, BASE)
    assert "n" * 32 not in repr(signer)
    for size, sha in ((-1, SHA), (1, SHA.upper()), (1, "")):
        with pytest.raises(ValueError, match="size must"):
            signer.sign("GET", "f", size=size, sha256=sha, now=NOW, lifetime_s=9)
    with pytest.raises(ValueError, match="too long"):
        signer.sign("GET", "é" * 2000, size=1, sha256=SHA, now=NOW, lifetime_s=9)


def in_store(store: str = "drive:fleet", object_id: str | None = "1aB/.._-x") -> tuple[bytes, bytes]:
    url = SignedUrls(KEYS, BASE).sign(
        "GET", PATH, size=1, sha256=SHA, now=NOW, lifetime_s=60, store=store, object_id=object_id
    )
    parts = urlsplit(url)
    return parts.path.encode(), parts.query.encode()


@pytest.mark.parametrize("object_id", [None, "1aB/.._-x", "a%2Fb/é", "--"])
def test_a_file_elsewhere_is_granted_with_its_store_and_its_id(object_id: str | None) -> None:
    path, query = in_store(object_id=object_id)
    grant = verify(KEYS, "HEAD", HOST, path, query, now=NOW)
    assert (grant.store, grant.object_id, grant.path, grant.method) == ("drive:fleet", object_id, PATH, "GET")


def test_the_store_and_the_id_are_part_of_what_is_signed() -> None:
    path, query = in_store()
    assert refusal("GET", HOST, path.replace(b"drive:fleet", b"drive:other"), query) == "bad_signature"
    assert refusal("GET", HOST, path.replace(b"1aB", b"2aB"), query) == "bad_signature"
    local, local_query = signed()
    moved = local.replace(b"/v1/files/", b"/v1/stores/drive/-/")
    assert refusal("GET", HOST, moved, local_query) == "bad_signature"


def test_a_store_elsewhere_is_only_read_from_and_has_the_name_of_one() -> None:
    signer = SignedUrls(KEYS, BASE)
    for method, store in (("PUT", "drive"), ("DELETE", "drive"), ("GET", "../x"), ("GET", "a/b"), ("GET", "")):
        with pytest.raises(ValueError, match="is no store"):
            signer.sign(method, "f", size=1, sha256=SHA, now=NOW, lifetime_s=9, store=store)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [b"/v1/stores/", b"/v1/stores/drive", b"/v1/stores/drive/-", b"/v1/stores/local/-/f"])
def test_an_address_that_names_no_file_in_a_store_is_malformed(path: bytes) -> None:
    _, query = in_store()
    values = [value.partition(b"=")[2] for value in query.split(b"&")[:-1]]
    fields = [b"fleetwire file 1", b"GET", HOST, path, *values]
    digest = hmac.digest(KEYS["new"], b"".join(len(field).to_bytes(4, "big") + field for field in fields), "sha256")
    signature = base64.urlsafe_b64encode(digest).rstrip(b"=")
    assert refusal("GET", HOST, path, query.rpartition(b"=")[0] + b"=" + signature) == "malformed"
