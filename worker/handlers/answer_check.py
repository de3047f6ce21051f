"""What the worker relies on in a handler's answer, looked at before anything is done with it."""

from typing import Any, Final

import msgspec

from shared.protocol.ids import file_name_problem
from worker.handlers.contract import FILES_MAX, SUMMARY_MAX_BYTES, Answer, Task

__all__ = ["RESPONSE_DOCUMENT", "BadAnswer", "check_answer"]

RESPONSE_DOCUMENT: Final = "response.json"


class BadAnswer(Exception):
    """A handler broke its contract."""


def check_answer(answer: Any, task: Task) -> None:
    """Looks at files, so it is for a process of the pool or a thread. Raises BadAnswer."""
    if not isinstance(answer, Answer):
        raise BadAnswer(f"the handler returned {type(answer).__name__}, not an Answer")
    if len(answer.files) > FILES_MAX:
        raise BadAnswer(f"{len(answer.files)} files; at most {FILES_MAX}")
    if len(msgspec.json.encode(answer.summary)) > SUMMARY_MAX_BYTES:
        raise BadAnswer(f"the summary has more than {SUMMARY_MAX_BYTES} bytes")
    names = [file.name for file in answer.files]
    if len({name.lower() for name in names}) != len(names):
        raise BadAnswer("two files have the same name")  # also where a store folds case
    for name in names:
        if problem := file_name_problem(name):
            raise BadAnswer(f"{name!r}: {problem}")
        if name.lower() == RESPONSE_DOCUMENT or name.startswith("."):
            raise BadAnswer(f"{name!r} is a reserved name")
        if not (task.output / name).is_file() or (task.output / name).is_symlink():
            raise BadAnswer(f"{name!r} was not written")
