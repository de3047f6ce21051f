"""Devices are told the same address of a hub by whoever tells them."""

from shared.hub_urls import socket_url


def test_the_url_is_the_hubs_or_the_proxys_with_its_name() -> None:
    assert socket_url("hub 1&2", "ws://10.0.0.1:8101/", None) == "ws://10.0.0.1:8101/v1/socket"
    assert socket_url("hub 1&2", "ws://10.0.0.1:8101/", "wss://edge/") == "wss://edge/v1/socket?hub=hub%201%262"
