"""The cache against a list that does the same slowly."""

from hypothesis import given
from hypothesis import strategies as st

from api.byte_lru import ByteLru

STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "use", "peek", "discard"]), st.integers(0, 6), st.integers(0, 12)), max_size=60
)


@given(STEPS)
def test_it_keeps_what_was_used_last_within_both_bounds(steps: list[tuple[str, int, int]]) -> None:
    cache: ByteLru[int, int] = ByteLru(max_bytes=10, max_entries=3)
    model: list[tuple[int, int]] = []  # key and size, the least lately used first
    for what, key, size in steps:
        found = next((one for one in model if one[0] == key), None)
        if what == "put":
            model = [one for one in model if one[0] != key]
            gone = 0
            if size <= 10:
                model.append((key, size))
                while sum(one[1] for one in model) > 10 or len(model) > 3:
                    del model[0]
                    gone += 1
            assert cache.put(key, size, size) == gone
        elif what == "discard":
            assert cache.discard(key) is (found is not None)
            model = [one for one in model if one[0] != key]
        else:
            assert (cache.use(key) if what == "use" else cache.peek(key)) == (found[1] if found else None)
            if what == "use" and found:
                model.remove(found)
                model.append(found)
        assert cache.values() == [size for _, size in model]
        assert (len(cache), cache.size_bytes) == (len(model), sum(size for _, size in model))


def test_what_has_no_room_at_all_is_not_kept_and_drives_nothing_out() -> None:
    cache: ByteLru[str, str] = ByteLru(max_bytes=10, max_entries=3)
    cache.put("a", "small", 4)
    assert cache.put("b", "large", 11) == 0
    assert repr(cache) == "ByteLru(1 of 3, 4 of 10 bytes)"
