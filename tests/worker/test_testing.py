"""The test kit, held against what workers do."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.worker.handlers.example_plug_in import ShoutHandler
from worker.handlers.contract import Answer, ResponseFile, Task
from worker.testing import AttemptFailed, handler_problems, try_handler, try_installed


class Careless:
    """Answers what it is told to."""

    kind = "careless"
    extensions = frozenset({".careless"})

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def recognises(self, head: bytes) -> bool:
        return False

    def run(self, task: Task) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def test_a_handler_is_tried_with_its_files() -> None:
    tried = try_handler(ShoutHandler(), "greeting.shout", "hello")
    assert (tried.handler, tried.outcome, tried.summary) == ("shout", "processed", {"characters": 5})
    assert (tried.files, tried.content_types) == ({"shouted.txt": b"HELLO"}, {"shouted.txt": "text/plain"})


def test_a_refusal_is_an_outcome() -> None:
    tried = try_handler(ShoutHandler(), "greeting.shout", b"\xff")
    assert (tried.outcome, tried.detail, tried.files) == ("unreadable", "the text is not UTF-8", {})


def test_what_it_does_not_take_is_unknown_and_content_decides_where_the_name_does_not() -> None:
    assert try_handler(ShoutHandler(), "greeting.txt", "hello").outcome == "unknown"
    assert try_handler(ShoutHandler(), "greeting", "SHOUT hello").handler == "shout"
    assert try_handler(ShoutHandler(), "greeting.txt", "hello", kind="shout").handler == "shout"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (ZeroDivisionError("by zero"), "ZeroDivisionError: by zero"),
        (None, "not an Answer"),
        (Answer("processed", files=(ResponseFile("absent.txt", "text/plain"),)), "was not written"),
        (Answer("processed", files=(ResponseFile("response.json", "application/json"),)), "reserved"),
        (Answer("processed", summary={"x": "y" * 70_000}), "summary"),
    ],
)
def test_where_a_worker_would_try_again_the_kit_says_so(answer: Any, words: str) -> None:
    with pytest.raises(AttemptFailed, match=words):
        try_handler(Careless(answer), "a.careless", "")


def test_too_little_memory_is_too_large() -> None:
    assert try_handler(Careless(MemoryError()), "a.careless", "").outcome == "too_large"


def test_what_breaks_the_contract_is_listed() -> None:
    class Wrong:
        kind = "Check List"
        extensions = frozenset({"CSV"})

        async def run(self, task: Task) -> Answer:
            raise NotImplementedError

    wrong: Any = Wrong()
    problems = handler_problems(wrong)
    assert [problem.split(" ")[0] for problem in problems] == ["kind", "extension", "it", "run"]
    with pytest.raises(ValueError, match="Check List"):
        try_handler(wrong, "a.csv", "")
    assert handler_problems(ShoutHandler()) == []


def test_a_name_that_no_device_can_send_is_refused() -> None:
    with pytest.raises(ValueError, match="name"):
        try_handler(ShoutHandler(), "../a.shout", "")


async def test_an_installed_handler_runs_in_a_process_with_its_bounds(
    tmp_path: Path, environ: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("PYTHONPATH", environ["PYTHONPATH"])

    def tried() -> None:
        assert try_installed("t.csv.gz", b"a,b\n1,2\n", kind="table").summary["rows"] == 1
        with pytest.raises(AttemptFailed, match="SIGKILL"):
            try_installed("a.crash", "x")
        with pytest.raises(AttemptFailed, match="did not end within"):
            try_installed("a.hang", "x", timeout_s=0.5)
        with pytest.raises(ValueError, match="handler absent"):
            try_installed("a.absent", "x")

    await asyncio.to_thread(tried)
