from files.digests import Digests
from shared.cloud.hashes import Digest
from shared.cloud.store import Stat

STAT = Stat(size=1, mtime_ns=2, inode=3)


def test_a_digest_is_known_while_its_file_stands_and_not_longer() -> None:
    digests = Digests()
    digests.learn("f", STAT, Digest(1, "aa"))
    assert digests.of("f", STAT) == Digest(1, "aa")
    for other in (Stat(2, 2, 3), Stat(1, 9, 3), Stat(1, 2, 9)):
        assert digests.of("f", other) is None
    assert digests.of("g", STAT) is None
    digests.forget("f")
    assert digests.of("f", STAT) is None


def test_no_more_are_kept_than_may_be_and_those_asked_for_stay() -> None:
    digests = Digests(limit=2)
    for path in ("a", "b"):
        digests.learn(path, STAT, Digest(1, path))
    assert digests.of("a", STAT)
    digests.learn("c", STAT, Digest(1, "c"))
    assert (len(digests), digests.of("b", STAT)) == (2, None)
    assert digests.of("a", STAT)
