from collections.abc import Sequence
from pathlib import Path

import pytest

from shared.cloud.errors import Misconfigured
from shared.cloud.local_provider import LocalProvider
from shared.cloud.provider import Provider
from shared.cloud.provider_settings import ProviderSettings
from shared.cloud.stores import Means, open_stores
from shared.settings import load


async def test_stores_are_found_by_the_names_that_stand_in_rows(root: Path, tmp: Path) -> None:
    made: list[Means] = []

    def opener(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
        made.append(means)
        return [LocalProvider(root, tmp, name="drive:trucks")]

    stores = open_stores(load(ProviderSettings, {}), local=LocalProvider(root, tmp), openers=[opener])
    assert stores.names == ("local", "drive:trucks")
    assert [store.name for store in stores] == ["local", "drive:trucks"]
    assert stores.need("drive:trucks") is stores.get("drive:trucks")
    assert made[0].http is stores.http
    assert stores.get("s3") is None
    with pytest.raises(Misconfigured, match="s3 is not set up in this process; there is: local, drive:trucks"):
        stores.need("s3")
    await stores.close()


async def test_nothing_is_opened_that_is_not_set_up() -> None:
    stores = open_stores(load(ProviderSettings, {}))
    assert stores.names == ()
    with pytest.raises(Misconfigured, match="there is: none"):
        stores.need("local")
    await stores.close()


async def test_a_provider_that_cannot_be_opened_holds_up_no_other_for_who_wants_that(root: Path, tmp: Path) -> None:
    def broken(settings: ProviderSettings, means: Means) -> Sequence[Provider]:
        raise Misconfigured("no key")

    local = LocalProvider(root, tmp)
    with pytest.raises(Misconfigured, match="no key"):
        open_stores(load(ProviderSettings, {}), openers=[broken])
    stores = open_stores(load(ProviderSettings, {}), local=local, openers=[broken], in_part=True)
    assert stores.names == ("local",)
    assert [str(problem) for problem in stores.problems] == ["no key"]
    await stores.close()
