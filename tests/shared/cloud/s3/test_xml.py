"""What S3 writes is read; what nobody should have written is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.s3.xml import BadXml, escaped, parsed

LIST = b"""<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
  <Name>depot</Name><Contents><Key>a&amp;b</Key><Size>1</Size></Contents><Contents><Key>&#x41;</Key></Contents>
</ListBucketResult>"""


def test_elements_are_found_by_name_whatever_their_namespace() -> None:
    root = parsed(LIST)
    assert (root.name, root.value("Name"), root.value("Nothing")) == ("ListBucketResult", "depot", None)
    assert [one.value("Key") for one in root.all("Contents")] == ["a&b", "A"]
    assert root.first("Nothing") is None


BOMB = b"""<!DOCTYPE lolz [<!ENTITY a "lol"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><lolz>&b;</lolz>"""
FILE = b"""<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]><x>&f;</x>"""
OUTSIDE = b"""<!DOCTYPE x SYSTEM "http://127.0.0.1/x.dtd"><x/>"""


@pytest.mark.parametrize("raw", [BOMB, FILE, OUTSIDE])
def test_a_document_type_is_refused(raw: bytes) -> None:
    with pytest.raises(BadXml, match="document type"):
        parsed(raw)


@pytest.mark.parametrize("raw", [b"", b"<a>", b"<a></b>", b"{}", b"<a>&x;</a>", b"\xff\xfe<", b"<a/><b/>"])
def test_what_is_no_xml_is_refused(raw: bytes) -> None:
    with pytest.raises(BadXml):
        parsed(raw)


def test_depth_is_bounded() -> None:
    assert parsed(b"<a>" * 16 + b"</a>" * 16).name == "a"
    with pytest.raises(BadXml, match="deep"):
        parsed(b"<a>" * 17 + b"</a>" * 17)


@given(st.binary(max_size=300))
def test_no_bytes_make_it_fail_otherwise(raw: bytes) -> None:
    try:
        parsed(raw)
    except BadXml:
        pass


@given(st.text(st.characters(min_codepoint=0x20, exclude_categories=("Cs", "Cc", "Cn"))))
def test_escaped_text_is_read_as_it_was(text: str) -> None:
    assert parsed(f"<a>{escaped(text)}</a>".encode()).text == text
