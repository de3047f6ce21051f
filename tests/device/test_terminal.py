"""The device at a terminal: what it prints, what it saves, how it ends."""

import asyncio
import io
import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from device import Timing, new_id
from device.terminal import main
from tests.device.clients import until
from tests.device.fleet import Fleet, make_event
from tests.device.office import create, update

FAST = Timing().faster(20)


async def run(fleet: Fleet, folder: Path, **options: Any) -> tuple[int, str]:
    out = io.StringIO()
    options = {"device_id": "truck-7", "token": fleet.token, "api": fleet.api_url, "timing": FAST, **options}
    code = await asyncio.wait_for(asyncio.to_thread(main, folder=folder, out=out, **options), 20)
    return code, out.getvalue()


def ready(fleet: Fleet, content: bytes = b"a,b\n1,2\n", **data: Any) -> dict[str, Any]:
    return {"job_id": "job-1", "request": {"name": "load.csv"}, "files": [fleet.file("summary.json", content)], **data}


async def test_events_are_printed_and_their_files_saved_and_acked(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(1, data=ready(fleet))
    code, out = await run(fleet, tmp_path, count=1)
    assert code == 0
    assert (tmp_path / "load.job-1" / "summary.json").read_bytes() == b"a,b\n1,2\n"
    assert "ResponseReady  1:1  event-1  for load.csv" in out
    assert "saved" in out
    assert "live" in out
    assert fleet.acked == 1
    assert "\x1b" not in out, "no colours where there is no terminal"


async def test_what_cannot_be_saved_is_said_and_nothing_stops(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(1, data=ready(fleet, files=[{"name": "../../etc/passwd"}]))
    wrong = ready(fleet)
    wrong["files"][0]["sha256"] = "0" * 64
    await fleet.publish(1, data=wrong)
    fleet.events.append({**make_event(3), "type": "RequestFailed", "data": {"job_id": "j", "reason": "too many tries"}})
    code, out = await run(fleet, tmp_path, count=3)
    assert code == 0
    assert out.count("not saved") == 1
    assert "no files" in out
    assert "RequestFailed  1:3  event-3  reason: too many tries" in out
    assert fleet.acked == 3


async def test_a_hostile_event_writes_nothing_outside_and_no_control_characters(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "truck-7"
    for job_id in ("../../x", "a/b", ".", "..", "\x1b[2J", "x" * 400):
        await fleet.publish(1, data=ready(fleet, job_id=job_id, request={"name": "..\x1b]0;title\x07/../name"}))
    code, out = await run(fleet, folder, count=6)
    assert code == 0
    assert "\x1b" not in out
    assert [path.name for path in tmp_path.iterdir()] == ["truck-7"]
    saved = [path.relative_to(folder) for path in folder.rglob("summary.json")]
    assert len(saved) == 6
    assert all(len(path.parts) == 2 for path in saved)


async def test_a_file_that_the_network_keeps_back_is_waited_for(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(1, data=ready(fleet))
    fleet.store_answers = [(500, {}, b"")] * 9
    code, out = await run(fleet, tmp_path, count=1)
    assert code == 0
    assert "not saved" not in out
    assert (tmp_path / "load.job-1" / "summary.json").exists()


async def test_a_file_that_the_store_cannot_give_is_said_and_the_next_event_comes(fleet: Fleet, tmp_path: Path) -> None:
    short = fleet.file("short.bin", b"x" * 1000, file_id="f-short")
    fleet.files["f-short"] = b"x" * 900
    broken = fleet.file("broken.bin", b"y" * 1000, file_id="f-broken")
    fleet.broken = {"f-broken"}
    await fleet.publish(1, data=ready(fleet, files=[short, broken]))
    await fleet.publish(1, data=ready(fleet, job_id="job-2"))
    code, out = await run(fleet, tmp_path, count=2, timing=Timing().faster(200))
    assert code == 0
    assert "not saved  short.bin" in out
    assert "not saved  broken.bin: given up after 5 rounds of tries" in out
    assert out.count("not yet  broken.bin") == 4
    assert (tmp_path / "load.job-2" / "summary.json").exists()
    assert fleet.acked == 2


async def test_a_notice_is_printed_once(fleet: Fleet, tmp_path: Path) -> None:
    running = asyncio.create_task(run(fleet, tmp_path, count=1))
    async with asyncio.timeout(20):
        while not fleet.sockets:
            await asyncio.sleep(0.01)
    for _ in range(2):
        await fleet.say(type="notice", id="n-1", data={"text": "maintenance at 6\x1b[2J"})
    await fleet.publish(1)
    _, out = await running
    assert out.count('notice  {"text":"maintenance at 6') == 1
    assert "\x1b" not in out


async def test_arguments_and_endings_have_their_codes(fleet: Fleet, tmp_path: Path) -> None:
    code, out = await run(fleet, tmp_path, device_id="Truck 7")
    assert code == 2
    assert "lower case" in out
    code, out = await run(fleet, tmp_path, token="Bearer secret")
    assert code == 2
    assert "secret" not in out
    code, out = await run(fleet, tmp_path, token="wrong")
    assert code == 1
    assert "token" in out


async def test_a_request_that_could_not_be_read_is_said_with_the_reason(fleet: Fleet, tmp_path: Path) -> None:
    answers: list[object] = [
        {"outcome": "unreadable", "detail": "the JPEG data is damaged\x1b[2J"},
        {"outcome": "processed", "detail": "never shown"},
        {"outcome": ["odd"], "detail": 5},
        [],
    ]
    for number, answer in enumerate(answers):
        document = fleet.file("response.json", json.dumps(answer).encode(), file_id=f"answer-{number}")
        await fleet.publish(1, data=ready(fleet, job_id=f"job-{number}", files=[document]))
    deep = fleet.file("response.json", b"[" * 5000, file_id="deep")
    await fleet.publish(1, data=ready(fleet, job_id="job-deep", files=[deep]))
    code, out = await run(fleet, tmp_path, count=5)
    assert code == 0
    assert "  unreadable  the JPEG data is damaged\N{REPLACEMENT CHARACTER}[2J\n" in out
    assert "never shown" not in out
    assert fleet.acked == 5


async def test_an_event_without_files_shows_its_data_and_the_end_is_said_once(fleet: Fleet, tmp_path: Path) -> None:
    await fleet.publish(1, data={"hello": "you", "n": 1})
    code, out = await run(fleet, tmp_path, count=1)
    assert code == 0
    assert 'ResponseReady  1:1  event-1  {"hello":"you","n":1}\n' in out
    assert out.splitlines()[-1].endswith("ended  what was finished is acked")
    assert out.count("ended") + out.count("closed") == 1
    code, out = await run(fleet, tmp_path, token="wrong")
    assert code == 1
    assert out.count("ended") + out.count("closed") == 1


PROCESS = """
import sys
from pathlib import Path
from device.terminal import main
sys.exit(main(device_id="truck-7", token="token-1", api=sys.argv[1]))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_stopped_by_a_signal_it_acks_and_ends_well(fleet: Fleet, tmp_path: Path, number: signal.Signals) -> None:
    await fleet.publish(2, data=ready(fleet))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-u", "-c", PROCESS, fleet.api_url),
        stdout=asyncio.subprocess.PIPE,
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    lines: list[str] = []
    async with asyncio.timeout(20):
        while sum("saved" in line for line in lines) < 2:
            lines.append((await process.stdout.readline()).decode())
        process.send_signal(number)
        rest = (await process.stdout.read()).decode()
        assert await process.wait() == 0
    assert "Traceback" not in rest
    assert (tmp_path / "truck-7" / "load.job-1" / "summary.json").exists()
    assert fleet.acked >= 1


async def test_operations_of_a_file_are_submitted_once_and_their_results_printed(fleet: Fleet, tmp_path: Path) -> None:
    entity, first, second = new_id(), new_id(), new_id()
    lines = [create(entity, op_id=first), {**update(entity, op_id=second), "after": first}, create("x", op_id=new_id())]
    file = tmp_path / "operations.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    for number in range(1, 3):
        out = io.StringIO()
        running = asyncio.ensure_future(
            asyncio.to_thread(
                main, device_id="truck-7", token=fleet.token, api=fleet.api_url, timing=FAST, folder=tmp_path / "inbox",
                out=out, submit=file, count=1,
            )
        )  # fmt: skip
        await until(lambda: out.getvalue().count("applied") == 2 if number == 1 else "submitted" in out.getvalue())  # noqa: B023
        await fleet.publish(1)
        assert await asyncio.wait_for(running, 20) == 0
        said = out.getvalue()
        assert "not submitted" in said
        assert "line 3: entity_id must be a UUID" in said
        assert said.count("applied") == (2 if number == 1 else 0)
        if number == 1:
            assert f"applied  inspection.update  {entity}  version 2" in said
    assert fleet.office.applied == [first, second]


@pytest.mark.parametrize(
    ("text", "said"),
    [("{", "line 1: not JSON"), ("[]", "line 1: an operation is"), ("{}", "with an op_id"),
     ('{"op_id": "a", "after": 1}', "after is")],
)  # fmt: skip
async def test_a_file_that_cannot_be_read_is_said_before_anything_begins(
    fleet: Fleet, tmp_path: Path, text: str, said: str
) -> None:
    file = tmp_path / "operations.jsonl"
    for submit in (file, tmp_path / "none"):
        file.write_text(text)
        code, out = await run(fleet, tmp_path, submit=submit)
        assert code == 2
        assert (said if submit == file else "cannot be read") in out
    assert fleet.requests == []
