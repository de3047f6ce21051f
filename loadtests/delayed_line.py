"""A line with delay in a process of its own, so that it takes no turns with who measures over it.

`python -m loadtests.delayed_line http://127.0.0.1:PORT` says its address as JSON and forwards until killed.
"""

import argparse
import asyncio
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from loadtests.fault_proxy import FaultProxy
from loadtests.process import start_python
from loadtests.slow_link import SlowLink

__all__ = ["delayed_line", "main"]


@contextmanager
def delayed_line(target: str, *, delay_s: float, window: int) -> Iterator[str]:
    """The address of a line to `target`: so much delay each way, and so many bytes under way on each connection."""
    arguments = [target, "--delay-ms", str(delay_s * 1000), "--window-kib", str(window // 1024)]
    process = start_python("loadtests.delayed_line", arguments, log=subprocess.DEVNULL)  # type: ignore[arg-type]
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.kill()
        process.communicate()


async def _forward(target: str, delay_s: float, window: int) -> None:
    # What leaves the window after one delay is acknowledged after two.
    link = SlowLink(delay_s=delay_s, buffer_bytes=window // 2)
    async with FaultProxy(target, link=link) as proxy:
        print(json.dumps({"url": f"http://127.0.0.1:{proxy.port}"}), flush=True)
        await asyncio.get_running_loop().create_future()


def main() -> None:
    """Forward until killed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.delayed_line", description=__doc__)
    parser.add_argument("target")
    parser.add_argument("--delay-ms", type=float, default=20.0)
    parser.add_argument("--window-kib", type=int, default=512)
    options = parser.parse_args()
    asyncio.run(_forward(options.target, options.delay_ms / 1000, options.window_kib * 1024))


if __name__ == "__main__":
    main()
