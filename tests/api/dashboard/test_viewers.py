"""Everybody is sent what is new to him, and a slow one skips what is past."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from api.dashboard.state import changes, encoded, frame
from api.dashboard.viewers import Viewer, Viewers

VALUES = st.dictionaries(st.sampled_from(["total", "hub/a", "hub/b", "dev/x", "dev/y"]), st.integers(0, 3))


class Page:
    """What a browser makes of frames."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {}

    def receive(self, sent: bytes) -> None:
        if not sent:
            return
        kind, data = sent.decode().removesuffix("\n\n").split("\n")
        said = orjson.loads(data.removeprefix("data: "))
        if kind == "event: whole":
            self.values = {}
        for key in said["drop"]:
            self.values.pop(key, None)
        self.values |= said["set"]


@given(st.lists(st.tuples(VALUES, st.booleans()), max_size=8))
def test_a_page_shows_the_newest_state_whenever_it_is_sent_something(steps: list[tuple[dict[str, int], bool]]) -> None:
    viewers, page = Viewers(1), Page()
    viewer = viewers.open(["x"])
    assert viewer is not None
    for values, takes in steps:
        viewers.publish(encoded(values))
        if takes:
            page.receive(viewer.take())
            assert page.values == {key: value for key, value in values.items() if key != "dev/y"}


@given(VALUES, VALUES)
def test_changes_lead_from_one_state_to_the_other(before: dict[str, int], after: dict[str, int]) -> None:
    page = Page()
    page.receive(frame(changes({}, encoded(before)), is_whole=True))
    page.receive(frame(changes(encoded(before), encoded(after))))
    assert page.values == after


def test_what_stands_still_is_not_sent_again() -> None:
    viewers = Viewers(1)
    viewer = viewers.open([])
    assert isinstance(viewer, Viewer)
    viewers.publish(encoded({"total": 1}))
    assert viewer.take().startswith(b"event: whole\n")
    viewers.publish(encoded({"total": 1}))
    assert viewer.take() == b""
    viewers.publish(encoded({"total": 2}))
    assert viewer.take() == b'event: patch\ndata: {"set":{"total":2},"drop":[]}\n\n'


def test_who_comes_later_gets_the_whole_and_devices_only_who_looks_at_them() -> None:
    viewers = Viewers(3)
    first = viewers.open(["x"])
    viewers.publish(encoded({"total": 1, "dev/x": 1, "dev/y": 1}))
    second = viewers.open(["y"])
    assert first is not None
    assert second is not None
    assert viewers.device_ids() == ["x", "y"]
    assert b"dev/y" not in first.take()
    assert b'"dev/y":1' in second.take()
    viewers.leave(second)
    assert viewers.device_ids() == ["x"]


def test_one_too_many_is_turned_away_and_leaving_ends_all() -> None:
    viewers = Viewers(1)
    viewer = viewers.open([])
    assert viewer is not None
    assert viewers.open([]) is None
    viewers.close()
    assert viewer.is_closed
