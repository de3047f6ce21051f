"""Whatever a hub says, the session answers with actions: it never raises, never jumps, never acks what was not done."""

import json
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from device.actions import Delivery, Gone, Live, MoveTo, SendAck
from device.moves import Moves
from device.route import Route
from device.session import Session
from device.timing import Timing
from shared.protocol.position import Position

NUMBERS = st.one_of(
    *[st.integers(-1, 12)] * 6, st.sampled_from([2**31, 2**53 - 1, 2**53, 2**63, 2**64, 10**30, 10**400, -(10**400)])
)
FLOATS = st.one_of(st.floats(-10, 100), st.sampled_from([0.0, 1e308, -1e308, 5e-324]), NUMBERS)
POSITIONS = st.one_of(
    *[st.builds("{}:{}".format, st.integers(1, 3), st.integers(0, 8))] * 8,
    st.sampled_from(["", "1", "1:", ":1", "0:1", "1:-1", "2147483648:1", "1:9007199254740992", "9" * 500 + ":1"]),
)
VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(), st.booleans(), NUMBERS, st.text(max_size=5), st.lists(st.none(), max_size=2), st.just({"a": [1]})
)
EVENTS = st.fixed_dictionaries(
    {}, optional={"id": VALUES, "source": VALUES, "type": VALUES, "data": VALUES, "time": VALUES}
)


def frame(kind: str, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[str]:
    """A frame that is right, or nearly: now and then one field is missing or of another type."""

    def build(whole: dict[str, Any], odd: int, name: str, value: Any) -> str:
        if odd == 1:
            whole = {key: kept for key, kept in whole.items() if key != name}
        elif odd == 2:
            whole = whole | {name: value}
        return json.dumps({"type": kind, **whole})

    return st.builds(build, st.fixed_dictionaries(fields), st.integers(0, 30), st.sampled_from(list(fields)), VALUES)


NEXT = 987654  # stands for the seq after what was received
WELCOME = """{"type":"welcome","session":"s","hub":"h","position":"1:%d","acked":%d,"head":9,"heartbeat_s":10,
"window":256,"ack_every":2,"ack_ms":500,"jitter_s":5}"""
FRAMES = st.one_of(
    frame(
        "welcome", session=st.just("s"), hub=st.just("h"), position=POSITIONS, acked=NUMBERS, head=NUMBERS,
        heartbeat_s=FLOATS, window=NUMBERS, ack_every=NUMBERS, ack_ms=NUMBERS, jitter_s=FLOATS,
    ),
    *[frame("event", seq=st.sampled_from([NEXT, NEXT, NEXT, NEXT, 1, 4]), event=EVENTS)] * 6,
    frame("event", seq=NUMBERS, event=EVENTS),
    frame("reset", position=POSITIONS, reason=st.text(max_size=5)),
    frame("moved", url=st.text(max_size=30), after_ms=NUMBERS, reason=st.text(max_size=5)),
    frame("notice", id=st.text(max_size=3), data=st.just({})),
    frame("token_ok", expires_at=st.one_of(st.text(max_size=30), st.just("2026-11-22T00:00:00Z"))),
    frame("error", code=st.just("token_refused"), detail=st.text(max_size=5)),
    st.text(max_size=10),
    st.just('{"type":"event","seq":1,"event":' + "[" * 3000 + "}"),
)  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from(["frame"] * 6 + ["take", "open", "close", "tick"]), FRAMES), min_size=8, max_size=40
)


@settings(max_examples=250, deadline=None)
@given(st.one_of(st.none(), st.integers(0, 5)), st.booleans(), STEPS)
def test_no_frame_breaks_the_session(start: int | None, welcomed: bool, steps: list[tuple[str, str]]) -> None:
    session = Session(position=None if start is None else Position(1, start))
    route = Route(Random(1), 0.0, Timing(), has_rest=True)
    moves = Moves(pace_s=5.0, after_max_s=60.0)
    finished, number, now, last = 0, 1, 0.0, session.done
    session.on_open(1, now)
    if welcomed:
        session.on_frame(1, WELCOME % (start or 0, start or 0), now)
    for step, text in steps:
        now += 0.25
        match step:
            case "frame":
                after = session.received.seq if session.received is not None else 0
                actions = session.on_frame(number, text.replace(str(NEXT), str(after + 1)), now)
            case "open":
                number += 1
                session.on_try(number)
                session.on_open(number, now)
                actions = []
            case "close":
                actions = session.on_closed(number, 1006, "")
            case "tick":
                actions = session.on_tick(now)
            case _:
                actions = []
                if (taken := session.take()) is not None:
                    if isinstance(taken, Delivery):
                        assert last is None or (taken.position.epoch, taken.position.seq) == (last.epoch, last.seq + 1)
                    last = taken.position
                    finished += 1
                    actions = session.finish(now)
        for action in actions:
            match action:
                case SendAck(_, seq):
                    assert session.done is not None
                    assert seq <= session.done.seq
                case Live(_, jitter_s):
                    route.on_live(now, jitter_s)
                case Gone() as gone:
                    route.on_gone(gone.how, gone.code, now, replaced=gone.pending)
                    assert now <= route.socket_due <= now + 80.0
                case MoveTo(link, url, after_s):
                    moves.plan(link, url, after_s, now)
                    assert moves.due is not None
                    assert moves.due <= now + 65.0
        at = session.next_tick()
        assert at is None or at == at  # a time, not NaN
