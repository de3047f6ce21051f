import pytest

from device.addresses import check_api, check_socket_url, file_url, next_hop, same_origin, socket_url
from device.errors import ConfigurationError, ForeignOrigin
from shared.protocol.position import Position


def test_the_address_of_a_try_says_who_from_where_and_which_try() -> None:
    url = socket_url("ws://h:1/v1/socket", device_id="truck-7", after=Position(2, 41), instance="i", attempt=3)
    assert url == "ws://h:1/v1/socket?device_id=truck-7&instance=i&attempt=3&after=2:41"


def test_a_query_that_is_there_is_kept_and_ours_wins() -> None:
    url = socket_url("ws://h/v1/socket?hub=hub-2&after=9:9&x=", device_id="d", after=None, instance="i", attempt=1)
    assert url == "ws://h/v1/socket?device_id=d&instance=i&attempt=1&hub=hub-2&x="


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://h/a", "http://H:80/b", True),
        ("https://h", "https://h:443", True),
        ("http://h", "https://h", False),
        ("http://h", "http://h:81", False),
        ("http://h", "http://h.example", False),
        ("http://h", "nonsense", False),
        ("http://h", "http://h:99999", False),
    ],
)
def test_an_origin_is_scheme_host_and_port(one: str, other: str, same: bool) -> None:
    assert same_origin(one, other) is same


def test_an_api_may_stand_below_a_path() -> None:
    assert file_url(check_api("https://h/fleet/"), "/api/v1/files/f-1") == "https://h/fleet/api/v1/files/f-1"
    assert file_url("https://h/fleet", "https://h/fleet/api/v1/files/f-1") == "https://h/fleet/api/v1/files/f-1"
    with pytest.raises(ForeignOrigin):
        file_url("https://h/fleet", "https://h/other/api/v1/files/f-1")


@pytest.mark.parametrize("url", ["h:8080", "ws://h", "http://", "http://u:p@h", "http://h:port"])
def test_an_api_that_cannot_be_one_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="api"):
        check_api(url)


def test_tls_is_not_given_up() -> None:
    assert check_socket_url("wss://h/v1/socket", api="https://h") == "wss://h/v1/socket"
    with pytest.raises(ConfigurationError, match="wss"):
        check_socket_url("ws://h/v1/socket", api="https://h")
    with pytest.raises(ForeignOrigin, match="TLS"):
        next_hop("https://h/x", "http://h/y")
    assert next_hop("https://h/x", "/y") == "https://h/y"
    assert next_hop("http://h/x", "https://store/y") == "https://store/y"
