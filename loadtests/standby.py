"""A streaming copy of an embedded Postgres, as a server of its own: made by pg_basebackup, promoted by SQL."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.onebox.home import put_private
from infra.onebox.postgres import EmbeddedPostgres
from infra.onebox.server_user import server_user
from infra.onebox.spawn import launch_arguments

__all__ = ["StandbyPostgres"]

_COPY_DEADLINE_S: Final = 120.0


@dataclass
class StandbyPostgres(EmbeddedPostgres):
    """Prepared while `primary` runs; its address differs from the primary's by the port alone."""

    primary: EmbeddedPostgres | None = None

    def prepare(self) -> bool:
        """Take the primary's password, so that both have the same, then copy it."""
        assert self.primary is not None
        password = self.home.secrets / f"{self.name}-password"
        if not password.exists():
            put_private(password, self.primary.home.password(f"{self.primary.name}-password").encode(), replace=True)
        return super().prepare()

    def _initialise(self, root: Path) -> None:
        assert self.primary is not None
        assert self.install is not None
        unfinished = root / "data.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        maintenance = self.primary.url.rpartition("/")[0] + "/postgres"
        program = [str(self.install / "bin" / "pg_basebackup"), "-D", str(unfinished), "-d", maintenance]
        program += ["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]
        user = server_user()
        done = subprocess.run(
            launch_arguments(program, user=user.name if user else None),
            cwd="/",
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_COPY_DEADLINE_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"pg_basebackup failed: {done.stderr.decode('utf-8', 'replace').strip()[-2000:]}")
        unfinished.rename(self.data)
