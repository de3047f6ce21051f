"""What an API process never does shows in what it has loaded."""

import subprocess
import sys
from pathlib import Path

_LOADED = "import sys, api.app; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_an_api_process_has_loaded_nothing_that_handles_images_and_no_other_process() -> None:
    loaded = subprocess.run(
        [sys.executable, "-c", _LOADED], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True
    ).stdout.split()
    assert {"api", "shared"} <= set(loaded)
    assert not {"PIL", "pillow_heif", "hub", "watcher", "worker", "files", "device", "infra"} & set(loaded)
