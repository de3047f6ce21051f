"""A handler as another package would bring it: the whole of it, to show how little it takes."""

from worker.handlers.contract import Answer, ResponseFile, Task, Unreadable


class ShoutHandler:
    """`*.shout` → the text in capitals."""

    kind = "shout"
    extensions = frozenset({".shout"})

    def recognises(self, head: bytes) -> bool:
        return head.startswith(b"SHOUT ")

    def run(self, task: Task) -> Answer:
        try:
            text = task.path.read_text("utf-8")
        except UnicodeDecodeError:
            raise Unreadable("the text is not UTF-8") from None
        (task.output / "shouted.txt").write_text(text.upper())
        return Answer(
            "processed", files=(ResponseFile("shouted.txt", "text/plain"),), summary={"characters": len(text)}
        )
