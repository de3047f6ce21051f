"""What a gateway that is not well answers; a real one is met in tests/api/routes/test_photos.py."""

import base64
from collections.abc import AsyncIterator
from hashlib import sha256

import pytest

from shared.cloud.errors import CloudError, Misconfigured, StoreUnavailable
from shared.cloud.gateway_uploads import GatewayUploads
from shared.cloud.store_client import StoreClient
from shared.cloud.uploads import Asset, Held, UploadStore
from shared.signed_urls import SignedUrls
from tests.shared.cloud.answers import answering, plain

ASSET = Asset("Photos/ab/1.2", "a.jpg", "image/jpeg", 5, sha256(b"12345").hexdigest())


@pytest.fixture
async def client() -> AsyncIterator[StoreClient]:
    made = StoreClient(deadline_s=5)
    yield made
    await made.close()


def uploads(client: StoreClient, url: str) -> UploadStore:
    return GatewayUploads(SignedUrls({"k": b"1" * 32}, url), client, public_url=url, lifetime_s=60, size_max=10)


@pytest.mark.parametrize(
    ("status", "error"), [(403, Misconfigured), (400, Misconfigured), (503, StoreUnavailable), (500, StoreUnavailable)]
)
async def test_an_answer_that_is_none_is_an_error(client: StoreClient, status: int, error: type[CloudError]) -> None:
    async with answering(plain(status)) as url:
        for ask in (uploads(client, url).held, uploads(client, url).remove):
            with pytest.raises(error):
                await ask(ASSET)


async def test_what_is_there_and_what_is_not(client: StoreClient) -> None:
    async with answering(plain(404)) as url:
        assert await uploads(client, url).held(ASSET) is None
        await uploads(client, url).remove(ASSET)
    async with answering(plain(409)) as url:
        held = await uploads(client, url).held(ASSET)
        assert held is not None
        assert not held.is_(ASSET), "another size"
    digest = base64.b64encode(sha256(b"12345").digest()).decode()
    answer = f"HTTP/1.1 200 x\r\nContent-Length: 5\r\nConnection: close\r\nRepr-Digest: sha-256=:{digest}:\r\n\r\n"
    async with answering(answer.encode()) as url:
        assert await uploads(client, url).held(ASSET) == Held(5, sha256=ASSET.sha256)


@pytest.mark.parametrize("digest", [None, "sha-256=:?:", "sha-512=:AAAA:", ""])
async def test_a_gateway_that_does_not_say_the_digest_is_not_believed(client: StoreClient, digest: str | None) -> None:
    async with answering(plain(200, *([] if digest is None else [f"Repr-Digest: {digest}"]))) as url:
        with pytest.raises(StoreUnavailable, match="digest"):
            await uploads(client, url).held(ASSET)
