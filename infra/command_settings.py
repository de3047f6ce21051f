"""What the commands that people type need to know.

That is the running set-up of this home, unless the environment says otherwise.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from infra.onebox.home import Home
from infra.onebox.keys import development_keys
from infra.onebox.running import Running
from infra.shown_commands import starting
from shared.keys import TokenKeySettings, read_key_ring
from shared.settings import SettingsError, path, setting
from shared.tokens import KeyRing

__all__ = ["CommandSettings"]


@dataclass(frozen=True, kw_only=True)
class CommandSettings(TokenKeySettings):
    """Read from the environment; what is missing is asked of the running set-up."""

    home_path: Path = setting("FLEETWIRE_HOME", Path(".fleetwire"), help="Folder of embedded data.", parse=path)
    database_url: str | None = setting("FLEETWIRE_DATABASE_URL", None, help="Postgres.", secret=True)
    redis_url: str | None = setting("FLEETWIRE_REDIS_URL", None, help="Redis.", secret=True)
    queue_url: str | None = setting("FLEETWIRE_QUEUE_URL", None, help="Carries hints of jobs.", secret=True)
    api_url: str | None = setting("FLEETWIRE_API_URL", None, help="Address of the API.")
    ops_token: str | None = setting(
        "FLEETWIRE_OPS_TOKEN", None, help="Token of the operations ports, if they have one.", secret=True
    )
    token: str | None = setting("FLEETWIRE_TOKEN", None, help="A token that was given out.", secret=True)

    @property
    def home(self) -> Home:
        """The home of this set-up."""
        return Home(self.home_path)

    @property
    def running(self) -> Running | None:
        """What runs in the home."""
        return Running.read(self.home)

    def make_request_folder(self, device_id: str) -> Path | None:
        """Where files for this device are dropped, when the cloud folder is on this machine."""
        running = self.running
        if running is None or not Path(running.cloud).is_dir():
            return None
        folder = Path(running.cloud) / "Requests" / device_id
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def need_database_url(self) -> str:
        """Raises SettingsError."""
        running = self.running
        found = self.database_url or (running and running.database_url)
        return found or _missing("FLEETWIRE_DATABASE_URL")

    def need_redis_url(self) -> str:
        """Raises SettingsError."""
        running = self.running
        found = self.redis_url or (running and running.redis_url)
        return found or _missing("FLEETWIRE_REDIS_URL")

    def need_api_url(self) -> str:
        """Raises SettingsError."""
        running = self.running
        found = self.api_url or (running and running.api)
        return found or _missing("FLEETWIRE_API_URL")

    def need_signing_keys(self) -> KeyRing:
        """A ring that can sign tokens: the environment's, else this home's. Raises SettingsError."""
        if self.token_keys_file is None and not self.token_keys:
            if not self.home.secrets.is_dir():
                return _missing("FLEETWIRE_TOKEN_KEYS_FILE")
            return read_key_ring(development_keys(self.home).tokens, None).under(self.token_rules())
        ring = self.token_key_ring()
        if ring.signing_key_id is None:
            raise SettingsError(["FLEETWIRE_TOKEN_KEYS holds public keys only: a private one is needed to sign"])
        return ring


def _missing(variable: str) -> NoReturn:
    raise SettingsError([f"nothing runs here: start `{starting()}` in another terminal (or set {variable})"])
