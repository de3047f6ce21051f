from hypothesis import given
from hypothesis import strategies as st

from shared.cloud.mirror import Difference, Mirror
from shared.cloud.provider import Change, Changed, ChangePage, Removed


def page(*changes: Change, more: bool = False, full: bool = False) -> ChangePage:
    return ChangePage(changes, "next", more, full)


ROOT = Changed("0", "root")


def folder(item_id: str, parent: str, name: str) -> Changed:
    return Changed(item_id, "folder", parent_id=parent, name=name)


def file(item_id: str, parent: str, name: str, version: str = "v:1") -> Changed:
    return Changed(item_id, "file", parent_id=parent, name=name, version=version, size=3)


def test_items_hang_in_the_tree_by_their_folders_and_follow_them() -> None:
    mirror = Mirror()
    mirror.apply(page(file("3", "2", "f"), folder("2", "1", "b"), folder("1", "0", "a")))
    assert mirror.files() == {}, "no root yet"
    mirror.apply(page(ROOT))
    assert mirror.files() == {"a/b/f": "v:1"}
    mirror.apply(page(folder("1", "0", "renamed")))
    assert mirror.files() == {"renamed/b/f": "v:1"}
    mirror.apply(page(Removed("2")))
    assert mirror.files() == {}


def test_what_a_run_over_everything_did_not_tell_is_gone_at_its_end() -> None:
    mirror = Mirror()
    mirror.apply(page(ROOT, file("1", "0", "a"), file("2", "0", "b"), full=True))
    mirror.apply(page(ROOT, file("1", "0", "a"), full=True, more=True))
    assert set(mirror.files()) == {"a", "b"}
    mirror.restart(None)
    assert mirror.cursor is None
    mirror.apply(page(ROOT, full=True, more=True))
    mirror.apply(page(file("2", "0", "b"), full=True))
    assert set(mirror.files()) == {"b"}
    mirror.apply(page(file("3", "0", "c")))
    assert set(mirror.files()) == {"b", "c"}, "a page of the log alone forgets nothing"


def test_a_loop_of_folders_is_nowhere() -> None:
    mirror = Mirror()
    mirror.apply(page(ROOT, folder("1", "2", "a"), folder("2", "1", "b"), file("3", "1", "f")))
    assert mirror.files() == {}


def test_paths_are_taken_as_they_are() -> None:
    mirror = Mirror()
    mirror.apply(page(Changed("k", "file", path="a/k", version="v:1", size=7)))
    assert (mirror.files(), mirror.size_of()) == ({"a/k": "v:1"}, {"a/k": 7})


def test_the_difference_is_since_the_last_time() -> None:
    mirror = Mirror()
    mirror.apply(page(ROOT, file("1", "0", "a"), file("2", "0", "b")))
    assert mirror.difference() == Difference(["a", "b"], [], [])
    mirror.apply(page(file("1", "0", "a", "v:2"), Removed("2"), file("3", "0", "c")))
    assert mirror.difference() == Difference(["c"], ["a"], ["b"])
    assert mirror.difference() == Difference([], [], [])


@given(
    st.lists(
        st.one_of(
            st.builds(Removed, st.sampled_from("123")),
            st.builds(file, st.sampled_from("123"), st.just("0"), st.sampled_from("ab")),
        ),
        max_size=9,
    ),
    st.booleans(),
)
def test_a_page_told_again_changes_nothing(changes: list[Change], full: bool) -> None:
    mirror = Mirror()
    told = page(ROOT, *changes, full=full)
    mirror.apply(told)
    once = mirror.files()
    mirror.apply(told)
    assert mirror.files() == once
