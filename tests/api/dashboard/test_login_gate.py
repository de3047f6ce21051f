"""How often somebody may try to sign in."""

from api.dashboard.login_gate import ADDRESSES_MAX, ALL_BURST, BURST, LoginGate


def test_an_address_that_fails_often_waits_and_others_do_not() -> None:
    gate = LoginGate(0.0)
    for _ in range(BURST):
        assert gate.wait_s("10.0.0.1", 0.0) == 0
        gate.failed("10.0.0.1", 0.0)
    assert gate.wait_s("10.0.0.1", 0.0) == 5.0
    assert gate.wait_s("10.0.0.2", 0.0) == 0
    assert gate.wait_s("10.0.0.1", 5.0) == 0


def test_who_signs_in_well_is_not_counted() -> None:
    gate = LoginGate(0.0)
    assert all(gate.wait_s("10.0.0.1", float(second)) == 0 for second in range(3 * BURST))


def test_all_together_have_a_bound_too() -> None:
    gate = LoginGate(0.0)
    waits = [gate.wait_s(f"10.0.{number}", 0.0) for number in range(ALL_BURST + 1)]
    assert [bool(wait) for wait in waits] == [False] * ALL_BURST + [True]


def test_no_more_addresses_are_remembered_than_a_thousand() -> None:
    gate = LoginGate(0.0)
    for number in range(ADDRESSES_MAX + 20):
        gate.failed(f"10.{number}", 0.0)
    assert len(gate) == ADDRESSES_MAX
    gate.failed("10.0.0.1", 100.0)  # by now the others have paid
    assert len(gate) == 1
