"""Where a welcomed device goes on, and what its position may say of the log.

A position above the head is a claim from outside that the log has lost its end. It raises the epoch of that device
alone; then the position is judged again, by what the log says now.
"""

from typing import Final

import structlog

from hub.errors import NotAnswered
from hub.greeting import Asked, Begin, begin
from hub.refusals import Refusal
from shared.protocol.resume import Implausible, LogLossSuspected
from shared.store import log
from shared.store.cursors import Greeted
from shared.store.pool import Pool

__all__ = ["find_beginning"]

LOOKS_MAX: Final = 3

_log = structlog.get_logger(__name__)


async def find_beginning(pool: Pool, asked: Asked, greeted: Greeted) -> tuple[Greeted, Begin | Refusal]:
    """Judge the position; one above the log raises the device's epoch first. Raises NotAnswered, StoreError.

    With the answer comes what the greeting said, brought up to date if the epoch was raised.
    """
    log_loss = False
    for _ in range(LOOKS_MAX):
        judged = begin(
            asked.after,
            epoch=greeted.epoch,
            floor=greeted.floor,
            head=greeted.head,
            acked=greeted.acked,
            log_loss=log_loss,
        )
        if isinstance(judged, Begin):
            return greeted, judged
        if isinstance(judged, Implausible):
            return greeted, Refusal(
                "invalid-parameter",
                "after is a position that this log cannot have given",
                reason="after",
                field="after",
            )
        greeted = await _raise_epoch(pool, asked.device_id, greeted, judged)
        log_loss = True
    raise NotAnswered("the log's epoch is changing; try again")


async def _raise_epoch(pool: Pool, device_id: str, greeted: Greeted, suspected: LogLossSuspected) -> Greeted:
    raised = await log.raise_device_epoch(
        pool, device_id, seen_epoch=greeted.epoch, claimed_epoch=suspected.claimed_epoch
    )
    _log.warning("device is ahead of the log", device_id=device_id, epoch=greeted.epoch, raised_to=raised)
    pages = await log.read_pages(pool, [log.PageRequest(device_id, 0, max_rows=0)])
    page = pages.get(device_id)
    if page is None:
        raise NotAnswered("the device is no longer in the log")
    return greeted._replace(epoch=page.epoch, floor=page.floor, head=page.head, acked=page.acked)
