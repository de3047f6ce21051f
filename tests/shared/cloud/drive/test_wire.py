import pytest

from shared.cloud.drive import wire


def test_a_text_in_a_query_ends_where_it_ends() -> None:
    assert wire.quoted("it's a \\ name") == r"'it\'s a \\ name'"
    assert wire.in_folders(["a", "b"]) == "('a' in parents or 'b' in parents) and trashed = false"


@pytest.mark.parametrize(("header", "size"), [(None, 0), ("bytes=0-0", 1), ("bytes=0-262143", 262_144)])
def test_what_a_session_has_is_in_its_range(header: str | None, size: int) -> None:
    assert wire.stored_bytes(header) == size


@pytest.mark.parametrize("header", ["bytes=5-9", "0-9", "bytes=0-", "bytes=0-x", "bytes 0-9"])
def test_a_range_that_is_none_is_refused(header: str) -> None:
    with pytest.raises(ValueError, match="first byte"):
        wire.stored_bytes(header)


def test_the_same_content_in_a_new_revision_is_a_new_version() -> None:
    file = wire.File("id", "a", "text/plain", ("p",), 3, "md5", "sha", "r1")
    again = wire.File("id", "a", "text/plain", ("p",), 3, "md5", "sha", "r2")
    assert wire.version_of(file) == "md5:md5+r1"
    assert wire.version_of(file) != wire.version_of(again)
    assert wire.version_of(wire.File("id", mime_type=wire.FOLDER)) is None
    assert not wire.File("id", "a", "application/vnd.google-apps.shortcut", ("p",), 3).is_file


def test_a_file_lies_where_its_name_and_folder_say_and_not_in_the_trash() -> None:
    file = wire.File("id", "A.txt", "text/plain", ("p",))
    assert file.lies_in("p", "a.TXT")
    assert not file.lies_in("q", "A.txt")
    assert not wire.File("id", "A.txt", "text/plain", ("p",), trashed=True).lies_in("p", "A.txt")


def test_what_is_none_is_not_asked_for() -> None:
    assert wire.query(a=None, b=True, c=5, d="x y&z") == "b=true&c=5&d=x+y%26z"
