"""Preparing statements when a connection is made, so that no transaction does it while it holds locks.

The first use of a statement takes two round trips, and while the server waits for the second, no timeout for idle
transactions runs: a process that was stopped just there kept its locks until the transaction's whole time was over
(measured: 15 s instead of 5). Statements of transactions that others wait for are therefore run once on each new
connection, with nulls, which match and write nothing, and rolled back.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

__all__ = ["warm_up"]

_PLACEHOLDER: Final = re.compile(r"\$(\d+)")


async def warm_up(connection: Any, statements: Sequence[str]) -> None:
    """Run each statement once with nulls. Only for statements that do nothing then."""
    if not statements:
        return
    transaction = connection.transaction()
    await transaction.start()
    try:
        for statement in statements:
            count = max((int(number) for number in _PLACEHOLDER.findall(statement)), default=0)
            await connection.fetch(statement, *[None] * count)
    finally:
        await transaction.rollback()
