from loadtests.emulators.faults import Fault, FaultScript


def test_a_fault_of_every_call_leaves_the_tests_own_hand_alone() -> None:
    script = FaultScript(faults=[Fault("*", times=1)])
    assert script.take("control") is None
    assert script.take("delta") is not None
    assert script.take("delta") is None
