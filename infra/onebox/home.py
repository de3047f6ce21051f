"""FLEETWIRE_HOME: the one folder where a set-up on one machine keeps its data and its secrets.

Made directories have the modes written here; a directory that was there before keeps its own. Secrets are made once,
appear whole or not at all, and are readable by their owner only. The lock says that a supervisor runs here; the kernel
gives it back when that process ends, however it ends.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from infra.onebox.errors import HomeInUse, HomeRefused

__all__ = ["Home"]


class Home:
    """The folders and secrets under one path.

    Making a Home object touches nothing; `prepare()` makes what is missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    def __repr__(self) -> str:
        return f"Home({str(self.path)!r})"

    def prepare(self) -> None:
        """Make the folder. Others may pass through it (an embedded server may run as another user) but not list it."""
        make_directory(self.path, 0o711)
        make_directory(self.secrets, 0o700)
        make_directory(self.run, 0o700)

    @property
    def secrets(self) -> Path:
        """Passwords and keys, for the owner only."""
        return self.path / "secrets"

    @property
    def run(self) -> Path:
        """What is true only while a supervisor runs: its lock and the addresses it gave out."""
        return self.path / "run"

    @property
    def cloud(self) -> Path:
        """The local cloud folder, which people drop files into."""
        return self.path / "cloud"

    @property
    def fingerprint(self) -> str:
        """A short name for this home, for places that several homes share."""
        return sha256(os.fsencode(self.path)).hexdigest()[:16]

    def password(self, name: str) -> str:
        """The password of that name, made on first use."""
        return self.secret(name, lambda: secrets.token_urlsafe(24).encode()).decode()

    def secret(self, name: str, make: Callable[[], bytes]) -> bytes:
        """The secret of that name; `make()` gives it if there is none yet. Of two makers at once, one wins for both."""
        file = self.secrets / name
        try:
            return file.read_bytes()
        except FileNotFoundError:
            put_private(file, make(), replace=False)
            return file.read_bytes()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the home for this process. Raises HomeInUse naming the holder."""
        file = self.run / "lock"
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
                raise HomeInUse(
                    f"fleetwire is already running in {self.path} (process {holder}); "
                    "stop it, or set FLEETWIRE_HOME to another folder"
                ) from None
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)


def make_directory(path: Path, mode: int) -> None:
    """Make the directory with exactly this mode, parents as usual; one that is there stays as it is."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700)
    except FileExistsError:
        if not path.is_dir():
            raise HomeRefused(f"{path} is in the way: it should be a directory") from None
        return
    except OSError as error:
        raise HomeRefused(f"{path} cannot be made: {error.strerror}; set FLEETWIRE_HOME to a folder you own") from None
    path.chmod(mode)


def put_private(file: Path, content: bytes, *, replace: bool) -> None:
    """Write a file that only its owner reads, whole or not at all. Without `replace`, one that is there stays."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        if replace:
            temporary.replace(file)
        else:
            with contextlib.suppress(FileExistsError):
                file.hardlink_to(temporary)
    finally:
        temporary.unlink(missing_ok=True)
