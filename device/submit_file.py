"""A file of operations: JSON objects, one a line, each with an `op_id` and, if it follows another, with `after`."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from device.errors import ConfigurationError

__all__ = ["Line", "read_operations"]


class Line(NamedTuple):
    """A line of a file of operations."""

    number: int
    operation: dict[str, Any]
    after: str | None


def read_operations(path: Path) -> list[Line]:
    """All lines that are not empty. Raises ConfigurationError, which names the line."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from None
    found = []
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        try:
            operation = json.loads(text)
        except (ValueError, RecursionError):
            raise ConfigurationError(f"{path}, line {number}: not JSON") from None
        if not isinstance(operation, dict) or not isinstance(operation.get("op_id"), str):
            # Without one, to submit the file again would do everything again.
            raise ConfigurationError(f"{path}, line {number}: an operation is a JSON object with an op_id")
        after = operation.pop("after", None)
        if after is not None and not isinstance(after, str):
            raise ConfigurationError(f"{path}, line {number}: after is the op_id of an operation before")
        found.append(Line(number, operation, after))
    return found
