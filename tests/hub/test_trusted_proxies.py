"""Where a connection comes from: believed as far as trusted proxies say it, and no further."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.trusted_proxies import TrustedProxies, address_key

PROXIES = TrustedProxies.parse("10.0.0.0/8, 192.168.1.7,2001:db8::/32")


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", [], "203.0.113.9"),
        ("203.0.113.9", ["198.51.100.1"], "203.0.113.9"),  # nobody asked it
        ("10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("10.1.2.3", ["198.51.100.1, 10.9.9.9"], "198.51.100.1"),
        ("10.1.2.3", ["1.1.1.1, 198.51.100.1", "192.168.1.7"], "198.51.100.1"),  # what the client invented is not read
        ("10.1.2.3", [], "10.1.2.3"),
        ("10.1.2.3", ["10.4.4.4"], "10.4.4.4"),
        ("10.1.2.3", ["198.51.100.1, unknown"], "10.1.2.3"),
        ("10.1.2.3", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.1.2.3", ['"[2001:db9::5]:4711"'], "2001:db9::/64"),
        ("2001:db8::1", ["2001:db9:0:1:aaaa::5"], "2001:db9:0:1::/64"),
        ("::ffff:10.1.2.3", ["198.51.100.1"], "198.51.100.1"),
        ("", ["198.51.100.1"], ""),
    ],
)
def test_the_first_address_from_the_right_that_is_no_proxy_is_the_client(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert PROXIES.client(peer, forwarded) == client


def test_without_trusted_proxies_the_other_end_is_the_client() -> None:
    assert TrustedProxies().client("10.1.2.3", ["198.51.100.1"]) == "10.1.2.3"
    assert not TrustedProxies().trusts("10.1.2.3")


@given(st.lists(st.text(max_size=60), max_size=8), st.text(max_size=40))
def test_whatever_is_sent_becomes_an_address_or_nothing(forwarded: list[str], peer: str) -> None:
    client = PROXIES.client(peer, forwarded)
    assert client == "" or client == address_key(client) or "/64" in client


@given(st.lists(st.ip_addresses().map(str), max_size=100))
def test_a_client_cannot_name_itself_whatever_it_puts_before(invented: list[str]) -> None:
    forwarded = ", ".join([*invented, "198.51.100.1"])
    assert PROXIES.client("10.0.0.1", [forwarded]) == "198.51.100.1"


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy.local", "10.0.0.0/33", ","])
def test_what_is_no_network_is_named(text: str) -> None:
    if text == ",":
        assert not TrustedProxies.parse(text)
    else:
        with pytest.raises(ValueError, match=text.partition("/")[0]):
            TrustedProxies.parse(text)
