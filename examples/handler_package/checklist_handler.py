"""`*.checklist` → what is still open. All that a handler needs."""

import re

from worker.handlers.contract import Answer, ResponseFile, Task, Unreadable


class ChecklistHandler:
    kind = "checklist"
    extensions = frozenset({".checklist"})

    def recognises(self, head: bytes) -> bool:
        return head.startswith((b"[ ] ", b"[x] "))

    def run(self, task: Task) -> Answer:
        text = task.path.read_text("utf-8", "replace")
        items = re.findall(r"^\[([ x])\] (.+)$", text, re.MULTILINE)
        if not items:
            raise Unreadable("no line of it is like '[ ] brakes' or '[x] brakes'")
        still_open = [name for done, name in items if done == " "]
        (task.output / "open.txt").write_text("".join(f"{name}\n" for name in still_open))
        summary = {"items": len(items), "open": len(still_open)}
        return Answer("processed", files=(ResponseFile("open.txt", "text/plain"),), summary=summary)
