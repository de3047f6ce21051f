from pathlib import Path

import pytest

from shared.cloud.settings import CloudSettings
from shared.settings import SettingsError, load


async def test_drafts_lie_beside_the_cloud_folder_unless_said_otherwise(tmp_path: Path) -> None:
    (tmp_path / "cloud").mkdir()
    settings = load(CloudSettings, {"FLEETWIRE_CLOUD_ROOT": str(tmp_path / "cloud")})
    assert settings.cloud_drafts == tmp_path / "cloud-tmp"
    elsewhere = str(tmp_path / "drafts")
    settings = load(CloudSettings, {"FLEETWIRE_CLOUD_ROOT": str(tmp_path / "cloud"), "FLEETWIRE_CLOUD_TMP": elsewhere})
    store = settings.open_local_store()
    await store.put_new("f", b"x")
    await store.close()
    assert (tmp_path / "drafts").is_dir()


def test_the_cloud_folder_must_be_named() -> None:
    with pytest.raises(SettingsError, match="FLEETWIRE_CLOUD_ROOT"):
        load(CloudSettings, {})
