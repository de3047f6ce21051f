"""The gateway as a process of its own, as it is run."""

import asyncio
import base64
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared import clock
from shared.signed_urls import Method, SignedUrls

KEY = b"k" * 32
KEY_SET = json.dumps(
    {"keys": [{"kty": "oct", "kid": "k1", "alg": "HS256", "k": base64.urlsafe_b64encode(KEY).decode().rstrip("=")}]}
)


@dataclass
class Process:
    process: asyncio.subprocess.Process
    port: int
    ops_port: int

    def url(self, method: Method, path: str, content: bytes, *, key_id: str = "k1") -> str:
        signer = SignedUrls({key_id: KEY}, f"http://127.0.0.1:{self.port}")
        digest = sha256(content).hexdigest()
        return signer.sign(method, path, size=len(content), sha256=digest, now=clock.wall(), lifetime_s=60)

    async def next_line(self) -> dict[str, Any]:
        assert self.process.stderr is not None
        line = await self.process.stderr.readline()
        assert line, "the process ended"
        return dict(json.loads(line))


async def launched(environment: dict[str, str]) -> asyncio.subprocess.Process:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLEETWIRE_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "files", env=inherited | environment, stderr=asyncio.subprocess.PIPE
    )


def environment(base: Path, **changes: str) -> dict[str, str]:
    (base / "cloud").mkdir(exist_ok=True)
    return {
        "FLEETWIRE_CLOUD_ROOT": str(base / "cloud"),
        "FLEETWIRE_FILES_KEYS": KEY_SET,
        "FLEETWIRE_FILES_PORT": "0",
        "FLEETWIRE_OPS_PORT": "0",
        "FLEETWIRE_LOG_FORMAT": "json",
        "FLEETWIRE_LOG_LEVEL": "info",
    } | {f"FLEETWIRE_{name}": value for name, value in changes.items()}


@asynccontextmanager
async def serving(base: Path, **changes: str) -> AsyncIterator[Process]:
    process = await launched(environment(base, **changes))
    started = Process(process, 0, 0)
    try:
        async with asyncio.timeout(20):
            while (line := await started.next_line())["event"] != "serving":
                pass
        started.port, started.ops_port = line["port"], line["ops_port"]
        yield started
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.processes
async def test_it_serves_says_ready_and_ends_with_0_when_asked_to(tmp_path: Path) -> None:
    async with serving(tmp_path) as files, httpx.AsyncClient(trust_env=False) as client:
        content = os.urandom(1_000_000)
        assert (await client.put(files.url("PUT", "a/b", content), content=content)).status_code == 201
        assert (await client.get(files.url("GET", "a/b", content))).content == content
        ops = f"http://127.0.0.1:{files.ops_port}"
        assert (await client.get(f"{ops}/ready")).status_code == 200
        metrics = (await client.get(f"{ops}/metrics")).text
        assert 'fleetwire_files_requests_total{method="PUT",status="201"} 1.0' in metrics
        assert 'fleetwire_files_bytes_total{direction="in"} 1e+06' in metrics
        files.process.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(files.process.communicate(), 10)
        assert files.process.returncode == 0
        assert b"signature" not in log
        assert KEY_SET.encode() not in log
    assert list((tmp_path / "cloud-tmp").iterdir()) == []


@pytest.mark.processes
async def test_a_secret_is_added_and_retired_without_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(KEY_SET)
    changes = {"FILES_KEYS": "", "FILES_KEYS_FILE": str(file), "KEYS_RELOAD_S": "0.05"}
    async with serving(tmp_path, **changes) as files, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.put(files.url("PUT", "a", b"x"), content=b"x")).status_code == 201
        file.write_text(KEY_SET.replace("k1", "k2"))
        async with asyncio.timeout(20):
            while (await client.get(files.url("GET", "a", b"x", key_id="k2"))).status_code != 200:
                pass
        assert (await client.get(files.url("GET", "a", b"x"))).status_code == 403


@pytest.mark.processes
async def test_a_stop_lets_an_upload_finish_and_is_not_ready_meanwhile(tmp_path: Path) -> None:
    async with serving(tmp_path) as files, httpx.AsyncClient(trust_env=False) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", files.port)
        target = files.url("PUT", "f", b"12345").partition(str(files.port))[2]
        head = f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{files.port}\r\nContent-Length: 5\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n123".encode())
        await reader.readuntil(b"\r\n\r\n")
        files.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            while (await client.get(f"http://127.0.0.1:{files.ops_port}/ready")).status_code != 503:
                await asyncio.sleep(0.01)
        writer.write(b"45")
        assert b" 201 " in await reader.readline()
        writer.close()
        assert await asyncio.wait_for(files.process.wait(), 10) == 0
    assert (tmp_path / "cloud" / "f").read_bytes() == b"12345"


@pytest.mark.processes
async def test_a_stop_ends_an_upload_that_does_not_finish_and_leaves_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path, FILES_LEAVE_S="0.2") as files:
        reader, writer = await asyncio.open_connection("127.0.0.1", files.port)
        target = files.url("PUT", "f", b"12345").partition(str(files.port))[2]
        head = f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{files.port}\r\nContent-Length: 5\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n123".encode())
        await reader.readuntil(b"\r\n\r\n")
        files.process.send_signal(signal.SIGTERM)
        assert b" 503 " in await reader.readline()
        assert await asyncio.wait_for(files.process.wait(), 10) == 0
        writer.close()
    assert list((tmp_path / "cloud").iterdir()) == []
    assert list((tmp_path / "cloud-tmp").iterdir()) == []


@pytest.mark.processes
async def test_what_a_killed_gateway_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as files:
        reader, writer = await asyncio.open_connection("127.0.0.1", files.port)
        target = files.url("PUT", "f", b"12345").partition(str(files.port))[2]
        head = f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{files.port}\r\nContent-Length: 5\r\n"
        writer.write(f"{head}Expect: 100-continue\r\n\r\n123".encode())
        await reader.readuntil(b"\r\n\r\n")
        files.process.kill()
        await files.process.wait()
        writer.close()
    assert len(list((tmp_path / "cloud-tmp").iterdir())) == 1
    async with serving(tmp_path, FILES_DRAFT_AGE_S="0"):
        assert list((tmp_path / "cloud-tmp").iterdir()) == []


@pytest.mark.processes
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"FILES_KEYS": ""}, "FLEETWIRE_FILES_KEYS"),
        ({"FILES_KEYS": '{"keys": [{"kty": "oct", "kid": "short", "k": "AAAA"}]}'}, "short"),
        ({"CLOUD_ROOT": "/nonexistent"}, "FLEETWIRE_CLOUD_ROOT"),
        ({"FILES_PORT": "99999"}, "FLEETWIRE_FILES_PORT"),
        ({"OPS_HOST": "0.0.0.0"}, "FLEETWIRE_OPS_TOKEN"),
    ],
)
async def test_a_process_that_cannot_start_names_the_setting(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    process = await launched(environment(tmp_path, **changes))
    _, log = await asyncio.wait_for(process.communicate(), 20)
    assert process.returncode == 2
    assert said in log.decode()
    assert b"Traceback" not in log
