"""Metrics tell apart the classes that are set up, and no others, whatever a token says."""

from dataclasses import replace

from api.client_class import NOBODY, client_of
from api.resource import NOBODY as NO_CLAIMS

KNOWN = frozenset({"truck", "warehouse"})
DEVICE = replace(NO_CLAIMS, subject="truck-7", scopes=frozenset({"device"}))


def test_a_device_counts_for_its_class_if_that_is_known() -> None:
    assert client_of(replace(DEVICE, device_class="truck"), KNOWN) == "truck"
    assert client_of(replace(DEVICE, device_class="made-up"), KNOWN) == "device"
    assert client_of(DEVICE, KNOWN) == "device"


def test_others_count_by_what_they_are() -> None:
    operator = replace(DEVICE, scopes=frozenset({"operator"}), device_class="truck")
    assert client_of(operator, KNOWN) == "operator"
    assert client_of(replace(DEVICE, scopes=frozenset({"service"})), KNOWN) == "service"
    assert client_of(NO_CLAIMS, KNOWN) == NOBODY
