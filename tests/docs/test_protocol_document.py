"""docs/protocol.md says what the code does: close codes, frames and test vectors."""

import re
from pathlib import Path

import msgspec

from shared.hash_slots import owners, partition_of, slot_of
from shared.protocol import frames
from shared.protocol.close_codes import CloseCode, Return, how_to_return

DOCUMENT = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
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
