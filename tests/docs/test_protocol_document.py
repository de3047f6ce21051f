"""docs/protocol.md says what the code does: refusals, close codes, frames, test vectors."""

import dataclasses
import re
from hashlib import blake2b
from pathlib import Path

import msgspec
import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from device.errors import ProtocolRefused, Refused, Revoked
from device.link import refusal_of
from hub.refusals import REFUSALS, Refusal
from hub.settings import Settings
from shared.hash_slots import owners, partition_of, slot_of
from shared.protocol import frames
from shared.protocol.close_codes import CloseCode, Return, how_to_return
from shared.protocol.position import InvalidPosition, parse_position

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "protocol.md").read_text("utf-8")
WORDS = {
    Return.NOW: "now",
    Return.AFTER_BACKOFF: "after backoff",
    Return.WITH_NEW_TOKEN: "with a new token",
    Return.NEVER: "never",
}


def test_the_table_of_close_codes_is_the_one_the_code_reads() -> None:
    rows = re.findall(r"^\| (\d{4}) \| ([A-Z_0-9]+) \| ([^|]+) \|$", DOCUMENT, re.MULTILINE)
    assert {(int(code), name) for code, name, _ in rows} == {(code.value, code.name) for code in CloseCode}
    for code, _, way in rows:
        assert way.startswith(WORDS[how_to_return(int(code))]), code


def test_every_frame_and_every_field_of_it_is_described() -> None:
    for frame in (*frames.HubFrame.__args__, *frames.DeviceFrame.__args__):
        described = re.search(rf"^\| `{frame.__struct_config__.tag}` \| ([^|]+) \|", DOCUMENT, re.MULTILINE)
        assert described is not None, frame
        assert set(re.findall(r"`(\w+)`", described[1])) == {field.name for field in msgspec.structs.fields(frame)}, (
            frame
        )


def test_the_vectors_of_slots_and_owners_hold() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \| (\d+) \| (\d+) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    assert len(rows) == 4
    for device_id, slot, partition, line in rows:
        assert (slot_of(device_id), partition_of(device_id)) == (int(slot), int(partition))
        assert re.findall(r"`([^`]+)`", line) == owners(int(slot), ["hub-1", "hub-2", "hub-3"])


def test_the_digests_of_the_example_are_those_of_the_hash_that_is_named() -> None:
    digests = re.findall(r"`blake2b\(\"([^\"]+)\"\)` = `([0-9a-f]{16})`", DOCUMENT)
    assert len(digests) == 4
    for text, digest in digests:
        assert blake2b(text.encode(), digest_size=8).hexdigest() == digest
    assert int(digests[0][1], 16) % 1024 == slot_of("truck-7") == 27
    assert [text.partition("|")[0] for text, _ in digests[1:]] == owners(27, ["hub-1", "hub-2", "hub-3"])
    assert sorted((digest for _, digest in digests[1:]), reverse=True) == [digest for _, digest in digests[1:]]


def _refusals() -> list[tuple[int, str, str, str]]:
    rows = re.findall(r"^\| (\d{3}) \| `([a-z-]+)` \|([^|]*)\| [^|]+ \| ([^|]+) \|$", DOCUMENT, re.MULTILINE)
    return [(int(status), slug, wait.strip(), then) for status, slug, wait, then in rows]


def test_the_table_of_refusals_is_the_one_the_hub_answers_by() -> None:
    said = {slug: (status, wait) for status, slug, wait, _ in _refusals()}
    assert len(said) == len(_refusals())
    assert said == {
        slug: (kind.status, "" if kind.retry_after_s is None else "{}–{} s".format(*kind.retry_after_s))
        for slug, kind in REFUSALS.items()
    }


def test_what_the_table_of_refusals_tells_clients_is_what_the_sdk_does() -> None:
    for status, slug, _, then in _refusals():
        refusal = Refusal(slug, "because")
        response = Response(status, "", Headers(refusal.headers(luck=0.5)), refusal.body("request-1"))
        error = refusal_of(InvalidStatus(response))
        if not isinstance(error, Refused):
            assert isinstance(error, Revoked | ProtocolRefused), slug
            assert then.startswith("never again"), slug
        elif error.status == 401:
            assert then.startswith("with a new token"), slug
        elif error.retry_after is not None:
            assert then.startswith("after `Retry-After`"), slug
            # The next address is tried only for what is one hub's trouble.
            assert ("by a new address" in then) == (status == 503), slug
        else:
            assert then.startswith("after backoff"), slug


def test_every_code_of_an_error_frame_that_a_hub_says_is_explained() -> None:
    table = DOCUMENT.partition("when it had one. Codes:")[2].partition("Events that Fleetwire itself")[0]
    explained = set(re.findall(r"^\| `([a-z_]+)` \|", table, re.MULTILINE))
    pattern = re.compile(r"""(?:ErrorFrame|FrameError|_refuse)\(\s*"([a-z_]+)\"""")
    sources = [*ROOT.glob("hub/*.py"), ROOT / "shared" / "protocol" / "frames.py"]
    said = {code for path in sources for code in pattern.findall(path.read_text("utf-8"))}
    # What a client finds when it cannot read a hub's frame is never sent.
    assert said - {"not_json"} == explained - {"code"}


def test_frames_that_are_said_to_be_refused_are() -> None:
    (line,) = re.findall(r"^Frames that are refused with `error`: (.+)$", DOCUMENT, re.MULTILINE)
    waiting: list[str] = []
    judged = 0
    for word in re.findall(r"`([^`]+)`", line):
        if word.startswith("{"):
            waiting.append(word)
            continue
        while waiting:
            with pytest.raises(frames.FrameError) as caught:
                frames.decode_device_frame(waiting.pop())
            assert caught.value.code == word
            judged += 1
    assert judged == 3


def test_frames_that_are_said_to_close_do_and_positions_are_as_said() -> None:
    (line,) = re.findall(r"^Frames that close with 4302: (.+)$", DOCUMENT, re.MULTILINE)
    for text in re.findall(r"`([^`]+)`", line):
        with pytest.raises(frames.ProtocolViolation):
            frames.decode_device_frame(text)
    (line,) = re.findall(r"^Positions: (.+)$", DOCUMENT, re.MULTILINE)
    legal, _, illegal = line.partition("are legal;")
    for text in re.findall(r"`([^`]+)`", legal):
        assert str(parse_position(text)) == text
    for text in re.findall(r"`([^`]+)`", illegal):
        with pytest.raises(InvalidPosition):
            parse_position(text)


def test_the_frames_of_the_example_are_frames() -> None:
    lines = re.findall(r"^([<>]) (\{.+\})$", DOCUMENT, re.MULTILINE)
    assert len(lines) == 3
    for direction, text in lines:
        frame = frames.decode_hub_frame(text) if direction == "<" else frames.decode_device_frame(text)
        assert frame is not None
        if isinstance(frame, frames.Welcome):
            default = {field.name: field.default for field in dataclasses.fields(Settings)}
            assert (frame.heartbeat_s, frame.window, frame.ack_every, frame.ack_ms, frame.jitter_s) == tuple(
                default[name] for name in ("heartbeat_s", "window_events", "ack_every", "ack_ms", "jitter_s")
            )
