from importlib.metadata import EntryPoint
from pathlib import Path

from worker.handlers.contract import ENTRY_POINT_GROUP, Answer, Task
from worker.handlers.noop import NoopHandler
from worker.handlers.photo import PhotoHandler
from worker.handlers.registry import load_registry
from worker.handlers.table import TableHandler

EXAMPLE = EntryPoint("shout", "tests.worker.handlers.example_plug_in:ShoutHandler", ENTRY_POINT_GROUP)


def test_a_plug_in_takes_its_files(tmp_path: Path) -> None:
    registry = load_registry([PhotoHandler(), TableHandler()], [EXAMPLE])
    assert registry.problems == ()
    source = tmp_path / "in"
    source.write_text("hello")
    handler = registry.choose("unknown", "greeting.SHOUT", b"hello")
    answer = handler.run(Task("greeting.SHOUT", source, tmp_path))
    assert answer.summary == {"characters": 5}
    assert (tmp_path / "shouted.txt").read_text() == "HELLO"


def test_a_plug_in_that_cannot_be_loaded_is_named_and_left_out() -> None:
    broken = [
        EntryPoint("gone", "no_such_module:Handler", ENTRY_POINT_GROUP),
        EntryPoint("wrong", "tests.worker.handlers.example_plug_in:ShoutHandler", ENTRY_POINT_GROUP),
        EntryPoint("path", "pathlib:PurePath", ENTRY_POINT_GROUP),
    ]
    registry = load_registry([TableHandler()], [*broken, EXAMPLE])
    assert sorted(registry.handlers) == ["shout", "table"]
    assert [problem.split(" ", 2)[1] for problem in registry.problems] == ["gone", "path", "wrong"]


def test_the_kind_decides_then_the_extension_then_the_content() -> None:
    registry = load_registry([PhotoHandler(), TableHandler(), NoopHandler()], [])
    jpeg = b"\xff\xd8\xff\xe0" + bytes(20)
    assert registry.choose("table", "a.jpg", jpeg).kind == "table"
    assert registry.choose("unknown", "a.CSV", jpeg).kind == "table"
    assert registry.choose("unknown", "picture", jpeg).kind == "photo"
    assert registry.choose("", "a.nef", b"II*\x00").kind == "photo"
    assert registry.choose("unknown", "log.txt", b'{"a":1}\n{').kind == "table"
    assert registry.choose("unknown", "x.noop", b"").kind == "noop"


def test_an_unknown_kind_is_answered_with_what_is_taken(tmp_path: Path) -> None:
    registry = load_registry([TableHandler(), PhotoHandler()], [])
    answer: Answer = registry.choose("unknown", "plan.dwg", b"AC1032").run(Task("plan.dwg", tmp_path, tmp_path))
    assert answer.outcome == "unknown"
    assert answer.detail is not None
    assert ".dwg" in answer.detail
    assert ".csv" in answer.detail
    assert ".nef" not in answer.detail


def test_installed_packages_are_asked_for_plug_ins() -> None:
    assert load_registry([TableHandler()]).handlers["table"].kind == "table"


def test_the_longest_ending_that_somebody_takes_decides() -> None:
    registry = load_registry([PhotoHandler(), TableHandler()], [])
    assert registry.choose("unknown", "load.2026.csv.GZ", b"").kind == "table"
    assert registry.choose("unknown", "load.csv.zip", b"").kind == "unknown"
    assert registry.choose("unknown", ".csv", b"").kind == "unknown"
