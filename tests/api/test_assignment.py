from hypothesis import given
from hypothesis import strategies as st

from api.assignment import ALTERNATIVES_MAX, assign
from shared.hash_slots import owner, slot_of
from shared.store.hubs import HubRow

HUBS = st.lists(
    st.builds(
        HubRow,
        name=st.sampled_from([f"hub-{n}" for n in range(8)]),
        instance=st.just("run"),
        url=st.just("ws://h:1"),
        connections=st.integers(0, 4),
        capacity=st.integers(1, 4),
        draining=st.booleans(),
        leaving=st.booleans(),
    ),
    unique_by=lambda hub: hub.name,
)


@given(HUBS, st.from_regex(r"[a-z0-9]{1,12}", fullmatch=True))
def test_the_best_hub_with_room_comes_first(hubs: list[HubRow], device_id: str) -> None:
    roomy = {hub.name for hub in hubs if not (hub.draining or hub.leaving) and hub.connections < hub.capacity}
    assignment = assign(device_id, hubs)
    if not roomy:
        assert assignment is None
        return
    assert assignment is not None
    assert assignment.hub.name == owner(slot_of(device_id), roomy)
    others = [hub.name for hub in assignment.alternatives]
    assert len(others) == min(ALTERNATIVES_MAX, len(roomy) - 1)
    assert set(others) < roomy | {""}
    assert assignment.hub.name not in others


@given(HUBS, st.randoms())
def test_the_order_of_the_rows_makes_no_difference(hubs: list[HubRow], rand: object) -> None:
    assert assign("truck-7", hubs) == assign("truck-7", sorted(hubs, key=lambda hub: hash((hub.name, str(rand)))))


@given(HUBS)
def test_a_hub_that_joins_only_takes_devices_and_moves_none_between_others(hubs: list[HubRow]) -> None:
    joining = HubRow("hub-new", "run", "ws://h:1", 0, 10, False)
    for device_id in ("truck-1", "truck-2", "office-1"):
        before, after = assign(device_id, hubs), assign(device_id, [*hubs, joining])
        assert after is not None
        assert after.hub.name == "hub-new" or (before is not None and after.hub == before.hub)
