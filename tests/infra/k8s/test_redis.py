"""Redis Cluster in a cluster: its size, how it grows, that it leaves in order, and that the shipped scripts work."""

import asyncio
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.onebox.valkey import find_server
from infra.redis_keeper.__main__ import Settings
from shared.settings import load
from tests.infra.k8s.rendering import K8S, of_kind, rendered
from tests.infra.scaling.horizontal import Horizontal

ALL = rendered("overlays/production")
SERVERS: dict[str, Any] = of_kind(ALL, "StatefulSet")["fleetwire-redis"]["spec"]
SCALED: dict[str, Any] = of_kind(ALL, "ScaledObject")["fleetwire-redis"]
CONFIGURATION = dict(
    line.split(" ", 1) for line in (K8S / "redis" / "valkey.conf").read_text().splitlines() if line and line[0] != "#"
)


def test_three_masters_with_two_replicas_each_on_three_nodes() -> None:
    assert SCALED["spec"]["minReplicaCount"] == 9
    [spread] = SERVERS["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["maxSkew"], spread["whenUnsatisfiable"]) == (1, "DoNotSchedule")
    keeper = of_kind(ALL, "Deployment")["fleetwire-redis-keeper"]["spec"]
    [container] = keeper["template"]["spec"]["containers"]
    given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    settings = load(Settings, given | {"FLEETWIRE_OPS_TOKEN": "0123456789abcdef"})
    assert settings.least == SCALED["spec"]["minReplicaCount"]
    service = of_kind(ALL, "Service")["fleetwire-redis"]["spec"]
    assert settings.names == (f"fleetwire-redis:{service['ports'][0]['port']}",)
    # It must find those that are not in the cluster yet.
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)


def test_it_grows_by_a_shard_at_a_time_and_never_shrinks() -> None:
    horizontal = Horizontal.of(SCALED)
    current, counts = 9, []
    for n in range(400):
        settled = n % 130 > 20
        wanted = current + 3 if settled and n < 200 else current
        current = horizontal.step(n * 15.0, current, [float(wanted)])
        counts.append(current)
    assert set(counts) <= {9, 12, 15}
    assert counts == sorted(counts)
    # All that is known says that none is needed: still none goes.
    assert {horizontal.step(7000.0 + 15 * n, 12, [0.0]) for n in range(200)} == {12}


def test_memory_is_bounded_by_the_server_before_the_cluster_kills_it() -> None:
    [container] = SERVERS["template"]["spec"]["containers"]
    allowed = re.fullmatch(r"(\d+)Mi", container["resources"]["limits"]["memory"])
    most = re.fullmatch(r"(\d+)gb", CONFIGURATION["maxmemory"])
    assert allowed is not None
    assert most is not None
    # Room for buffers of replicas and of those that read messages.
    assert int(allowed[1]) >= 1.4 * 1024 * int(most[1])


@pytest.fixture
def pod(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """start.sh as in the image, with folders and ports of this test."""
    scripts = tmp_path / "etc"
    scripts.mkdir()
    for name in ("valkey.conf", "start.sh", "leave.sh"):
        text = (K8S / "redis" / name).read_text().replace("/etc/valkey", str(scripts)).replace("/data", str(tmp_path))
        (scripts / name).write_text(text.replace("port 6379", "port 0\nunixsocket " + str(tmp_path / "s")))
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "valkey-server").symlink_to(find_server())
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "POD_IP": "127.0.0.1",
        "NODE_NAME": "node-7",
        "REDIS_PASSWORD": "b" * 32,
    }
    yield scripts, environment
    shutil.rmtree(tmp_path / "etc")


async def test_the_start_script_starts_a_server_with_the_shipped_configuration(
    pod: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    scripts, environment = pod
    process = subprocess.Popen(["sh", str(scripts / "start.sh")], env=environment, stdout=subprocess.DEVNULL)
    try:
        async with asyncio.timeout(20):
            while not (tmp_path / "s").exists():
                assert process.poll() is None
                await asyncio.sleep(0.02)
            reader, writer = await asyncio.open_unix_connection(str(tmp_path / "s"))
            writer.write(b"AUTH " + b"b" * 32 + b"\r\nINFO server\r\nCLUSTER INFO\r\nQUIT\r\n")
            said = (await reader.read()).decode()
            writer.close()
        assert "availability_zone:node-7" in said
        assert "cluster_slots_assigned:0" in said
    finally:
        process.kill()
        process.wait()


def test_the_scripts_are_ones_that_a_shell_takes_and_are_run() -> None:
    for script in sorted((K8S / "redis").glob("*.sh")) + sorted((K8S / "postgres").glob("*.sh")):
        done = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    [container] = SERVERS["template"]["spec"]["containers"]
    assert container["command"] == ["sh", "/etc/valkey/start.sh"]
    assert container["lifecycle"]["preStop"]["exec"]["command"] == ["sh", "/etc/valkey/leave.sh"]
