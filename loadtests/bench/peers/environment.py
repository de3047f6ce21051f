"""Where the peers are installed for one run: their pinned packages in a folder that is thrown away afterwards.

Nothing of ours is in there, and nothing of it is in ours. Packages come by the package managers' own configuration.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

__all__ = ["NotInstalled", "install_node", "install_python", "pinned_versions"]

_HERE: Final = Path(__file__).parent
_REQUIREMENTS: Final = _HERE / "requirements.txt"
_PACKAGES: Final = ("package.json", "package-lock.json")
_INSTALL_DEADLINE_S: Final = 300.0
_PIN: Final = re.compile(r"([a-z0-9-]+)==(\S+)")


class NotInstalled(RuntimeError):
    """A peer cannot be installed here, so it is not measured; the message says why."""


def install_python(folder: Path, requirements: Path = _REQUIREMENTS) -> Path:
    """The Python that has the peers in Python, or whatever else these requirements name."""
    _run([sys.executable, "-m", "venv", str(folder)], folder.parent)
    python = folder / "bin" / "python"
    options = ["--quiet", "--disable-pip-version-check", "--require-hashes", "--only-binary=:all:"]
    _run([str(python), "-m", "pip", "install", *options, "-r", str(requirements)], folder.parent)
    return python


def install_node(folder: Path) -> Path:
    """The folder in which node finds Socket.IO."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        raise NotInstalled("node and npm are not on this machine")
    folder.mkdir()
    for name in _PACKAGES:
        shutil.copyfile(_HERE / name, folder / name)
    _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
    return folder


def _run(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_INSTALL_DEADLINE_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalled(f"{command[0]}: {error}") from error
    if done.returncode:
        raise NotInstalled(f"{' '.join(command[:4])} … failed:\n{(done.stderr or done.stdout)[-1500:]}")


def pinned_versions() -> Mapping[str, str]:
    """Package → version of all that the peers' own figures depend on, as installed (other versions are refused)."""
    pins = dict(_PIN.findall(_REQUIREMENTS.read_text()))
    locked = json.loads((_HERE / "package-lock.json").read_text())["packages"]
    node = {name.removeprefix("node_modules/"): entry["version"] for name, entry in locked.items() if name}
    direct = json.loads((_HERE / "package.json").read_text())["dependencies"]
    wanted = ("channels", "channels-redis", "python-socketio", "uvicorn", "uvloop", "websockets")
    return {name: pins[name] for name in wanted} | {f"{name} (node)": node[name] for name in direct}
