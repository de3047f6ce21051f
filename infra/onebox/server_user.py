"""Which user an embedded Postgres runs as, and where that user can reach it.

Postgres refuses to run as root, so as root it runs as `nobody`. When a directory above its binaries or its data is
closed to that user, they live in /var/tmp under a name made from the home; no directory that the set-up did not make is
opened for it. In /var/tmp anybody may make a name first, so one that is not ours alone is refused.
"""

import os
import pwd
import shutil
import stat
from pathlib import Path
from typing import Final, NamedTuple

from infra.onebox.errors import HomeRefused

__all__ = ["ServerUser", "can_enter", "copy_tree", "server_user", "shared_place"]

UNPRIVILEGED: Final = "nobody"


class ServerUser(NamedTuple):
    """A user other than ours that a server runs as."""

    name: str
    uid: int
    gid: int


def server_user() -> ServerUser | None:
    """`nobody` when this process is root, else None: the server runs as we do."""
    if os.geteuid() != 0:
        return None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise HomeRefused(
            f"Postgres cannot run as root and this machine has no user {UNPRIVILEGED}: "
            "run as an ordinary user, or set FLEETWIRE_DATABASE_URL"
        ) from None
    return ServerUser(entry.pw_name, entry.pw_uid, entry.pw_gid)


def can_enter(directory: Path, user: ServerUser | None) -> bool:
    """Whether the user may pass through every directory down to this one, by their owners and modes."""
    if user is None:
        return True
    resolved = directory.resolve()
    return all(_may_pass(part.stat(), user) for part in (resolved, *resolved.parents))


def _may_pass(status: os.stat_result, user: ServerUser) -> bool:
    if status.st_uid == user.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == user.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def shared_place(fingerprint: str, base: Path = Path("/var/tmp")) -> Path:  # noqa: S108 - owner and mode are checked
    """The directory of this home in /var/tmp, made when missing. Raises HomeRefused when it is not ours alone."""
    place = base / f"fleetwire-{fingerprint}"
    try:
        place.mkdir(mode=0o700)
        place.chmod(0o711)
    except FileExistsError:
        status = place.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise HomeRefused(f"{place} was not made by this set-up: remove it, or set FLEETWIRE_HOME") from None
    return place


def copy_tree(source: Path, target: Path, *, ignore: tuple[str, ...] = ()) -> None:
    """Copy a tree so that everybody can read it, whole or not at all: a target that exists is complete."""
    if target.exists():
        return
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        shutil.copytree(source, temporary, symlinks=True, ignore=shutil.ignore_patterns(*ignore))
        for folder, _, names in os.walk(temporary):
            Path(folder).chmod(0o755)
            for name in names:
                file = Path(folder) / name
                if not file.is_symlink():
                    file.chmod(0o755 if file.stat().st_mode & stat.S_IXUSR else 0o644)
        try:
            temporary.rename(target)
        except OSError:
            if not target.exists():  # else another process was first, with the same files
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
