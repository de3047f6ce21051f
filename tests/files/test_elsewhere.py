"""Files in stores that give no addresses out: read through the gateway, and never written."""

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import pytest

from shared import clock
from shared.cloud.errors import StoreUnavailable
from shared.cloud.local_provider import LocalProvider
from tests.files.conftest import Running, Start

CONTENT = bytes(range(256)) * 2000
PATH = "Responses/truck-7/load.1/photo ä.jpg"


class Elsewhere(LocalProvider):
    """A store of another kind, as far as the gateway can see."""

    down = False

    def open(self, path: str, *, object_id: str | None = None):  # type: ignore[no-untyped-def]
        if self.down:
            raise StoreUnavailable("down")
        return super().open(path, object_id=object_id)


@pytest.fixture
async def elsewhere(tmp_path: Path) -> AsyncIterator[Elsewhere]:
    (tmp_path / "drive").mkdir()
    provider = Elsewhere(tmp_path / "drive", tmp_path / "drive-tmp", name="drive")
    await provider.put_new(PATH, CONTENT)
    yield provider
    await provider.close()


@pytest.fixture
async def running(start: Start, elsewhere: Elsewhere) -> AsyncIterator[Running]:
    async with start(elsewhere={"drive": elsewhere}) as one:
        yield one


async def test_a_file_elsewhere_is_streamed_whole_or_in_part(running: Running) -> None:
    url = running.url("GET", PATH, CONTENT, store="drive", content_type="image/jpeg", name="photo.jpg")
    answer = await running.client.get(url)
    assert (answer.status_code, answer.content) == (200, CONTENT)
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["etag"] == f'"{sha256(CONTENT).hexdigest()}"'
    part = await running.client.get(url, headers={"Range": "bytes=1000-70999"})
    assert (part.status_code, part.content) == (206, CONTENT[1000:71000])
    head = await running.client.head(url, headers={"Want-Repr-Digest": "sha-256=1"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))
    assert head.headers["repr-digest"].startswith("sha-256=:")
    running.put_file(PATH, b"here, not there")
    assert (await running.client.get(url)).content == CONTENT


async def test_a_file_that_is_gone_or_another_one_is_said_so(running: Running, elsewhere: Elsewhere) -> None:
    url = running.url("GET", PATH, CONTENT + b"more", store="drive")
    assert (await running.client.get(url)).status_code == 409
    url = running.url("GET", PATH, CONTENT, store="drive")
    await elsewhere.remove(PATH)
    assert (await running.client.get(url)).status_code == 404


async def test_a_store_that_is_down_or_not_set_up_is_a_reason_to_come_again(
    running: Running, elsewhere: Elsewhere
) -> None:
    assert (await running.client.get(running.url("GET", PATH, CONTENT, store="sharepoint"))).status_code == 503
    elsewhere.down = True
    assert (await running.client.get(running.url("GET", PATH, CONTENT, store="drive"))).status_code == 503


async def test_nothing_is_put_or_removed_elsewhere(running: Running, elsewhere: Elsewhere) -> None:
    url = running.url("GET", PATH, CONTENT, store="drive")
    assert (await running.client.put(url, content=CONTENT)).status_code == 403
    assert (await running.client.delete(url)).status_code == 403
    with pytest.raises(ValueError, match="no store"):
        running.signer.sign("PUT", PATH, size=1, sha256="0" * 64, now=clock.wall(), lifetime_s=9, store="drive")
    assert await elsewhere.stat(PATH) is not None
