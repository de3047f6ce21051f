"""Lines of many processes on one terminal."""

import io
import threading

from infra.onebox.log_lines import LINE_MAX, QUEUE_MAX, LogLines


def test_each_line_stands_behind_its_process() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=False)
    lines.say("api", "ready")
    lines.say("postgres", "ready")
    lines.close()
    assert stream.getvalue() == "api      │ ready\npostgres │ ready\n"


def test_a_process_cannot_move_the_cursor() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=True)
    lines.say("api", "a\x1b[2Jb\x07\rc\x9b \x1b[31mred\x1b[0m")
    lines.close()
    said = stream.getvalue()
    assert "\x1b[31mred\x1b[0m" in said
    assert "\x1b[2J" not in said
    assert not {"\x07", "\r", "\x9b"} & set(said)


def test_colours_are_left_out_where_there_are_none() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=False)
    lines.say("api", "\x1b[31mred\x1b[0m")
    lines.close()
    assert stream.getvalue() == "api      │ red\n"


def test_a_long_line_is_cut() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=False)
    lines.say("api", "x" * (LINE_MAX + 5))
    lines.close()
    assert stream.getvalue().endswith("… (cut)\n")


def test_the_last_lines_are_kept_for_an_error() -> None:
    lines = LogLines(io.StringIO(), colour=False)
    for number in range(100):
        lines.say("api", f"line {number}")
    lines.close()
    assert lines.tail("api")[-1] == "line 99"
    assert len(lines.tail("api")) == 30
    assert lines.tail("nobody") == []


class Stuck(io.StringIO):
    """A terminal that takes nothing until it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(10)
        return super().write(text)


def test_a_terminal_that_stands_still_stops_nobody() -> None:
    stream = Stuck()
    lines = LogLines(stream, colour=False)
    for _ in range(QUEUE_MAX + 10):
        lines.say("api", "x")
    assert lines.dropped >= 9
    stream.go.set()
    lines.close(10)
    assert "log lines were dropped" in stream.getvalue() or lines.dropped > 0


class Closed(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_terminal_that_is_gone_is_no_error() -> None:
    lines = LogLines(Closed(), colour=False)
    lines.say("api", "x")
    lines.close()


def test_a_name_that_stands_in_front_is_not_said_again() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=False)
    lines.say("worker", "01:56:20.403 info    worker-1: job done")
    lines.say("hub-1", "01:56:20.403 info    hub-1: hub takes devices")
    lines.say("api", "01:56:20.403 info    files: not its own name")
    lines.close()
    assert stream.getvalue().splitlines() == [
        "worker   │ 01:56:20.403 info    job done",
        "hub-1    │ 01:56:20.403 info    hub takes devices",
        "api      │ 01:56:20.403 info    files: not its own name",
    ]


def test_what_the_servers_say_to_nobody_is_left_out_and_kept_for_an_error() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=False)
    lines.say("valkey", "1:M # WARNING Memory overcommit must be enabled! Without it, …")
    lines.say("postgres", "77 FATAL:  the database system is starting up")
    lines.say("postgres", "77 FATAL:  something else")
    lines.close()
    assert stream.getvalue() == "postgres │ 77 FATAL:  something else\n"
    assert len(lines.tail("valkey")) == 1


def test_flush_returns_when_all_is_written_and_not_much_later_when_it_cannot_be() -> None:
    stream = io.StringIO()
    lines = LogLines(stream, colour=False)
    lines.plain("first")
    lines.flush(10)
    assert stream.getvalue() == "first\n"
    lines.close()
    stuck = LogLines(Stuck(), colour=False)
    stuck.plain("first")
    stuck.flush(0.05)
    stuck.close(0.05)
