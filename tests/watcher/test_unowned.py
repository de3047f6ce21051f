"""How long feeds are without an owner is counted from the moment that this watcher saw it, for each store."""

from watcher.unowned import Unowned, store_of

FEEDS = ["local:cloud:0", "local:cloud:1", "sharepoint:fleet", "s3:7"]


def test_a_feed_is_of_its_store() -> None:
    assert [store_of(feed) for feed in FEEDS] == ["local", "local", "sharepoint:fleet", "s3"]


def test_the_feed_that_nobody_has_for_longest_counts() -> None:
    seen = Unowned(FEEDS)
    assert seen.look(FEEDS, 100.0) == {"local": 0, "sharepoint:fleet": 0, "s3": 0}
    assert seen.look(FEEDS[1:], 110.0)["local"] == 0
    assert seen.look(FEEDS[2:], 115.0)["local"] == 5
    assert seen.look(FEEDS[2:], 121.0) == {"local": 11, "sharepoint:fleet": 0, "s3": 0}


def test_it_begins_anew_once_it_had_an_owner() -> None:
    seen = Unowned(FEEDS)
    seen.look((), 0.0)
    seen.look(FEEDS, 10.0)
    assert seen.look(FEEDS[1:], 20.0)["local"] == 0
    assert seen.look(FEEDS[1:], 21.0)["local"] == 1
