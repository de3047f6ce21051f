"""Against an S3 server of its own process, behind a guard that checks signatures and checksums as S3 does."""

import base64
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from hashlib import sha256

import httpx
import pytest

from loadtests.ports import free_port
from loadtests.process import start_python
from shared.clock import wall
from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.s3_uploads import Bucket, S3Uploads
from shared.cloud.sigv4 import Credentials
from shared.cloud.store_client import StoreClient
from shared.cloud.uploads import Asset, Held, UploadStore
from tests.shared.cloud.answers import answering, plain
from tests.shared.cloud.s3_guard import Guard, guarding

CONTENT = os.urandom(50_000)
KEY = Credentials("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
ASSET = Asset("Photos/ab/1.2 ü", "Grüße.jpg", "image/jpeg", len(CONTENT), sha256(CONTENT).hexdigest())


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    port = free_port()
    process = start_python("moto.server", ["-H", "127.0.0.1", "-p", str(port)], log=subprocess.DEVNULL)  # type: ignore[arg-type]
    url, end = f"http://127.0.0.1:{port}", time.monotonic() + 40
    try:
        while True:
            try:
                assert httpx.put(f"{url}/depot", trust_env=False).status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < end
                time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
async def client() -> AsyncIterator[StoreClient]:
    made = StoreClient(deadline_s=10)
    yield made
    await made.close()


@pytest.fixture
async def device() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as made:
        yield made


@pytest.fixture
async def guarded(endpoint: str) -> AsyncIterator[tuple[str, Guard]]:
    async with guarding(endpoint, KEY.key_id, KEY.secret) as running:
        yield running


@pytest.fixture
def uploads(guarded: tuple[str, Guard], client: StoreClient) -> UploadStore:
    return S3Uploads(Bucket("depot", "eu-west-1", guarded[0]), KEY, client, lifetime_s=60, size_max=2**31)


async def test_a_photo_is_put_once_asked_for_fetched_and_removed(
    uploads: UploadStore, device: httpx.AsyncClient
) -> None:
    assert await uploads.held(ASSET) is None
    permit = uploads.permit(ASSET, now=wall())
    assert permit.method == "PUT"
    assert (await device.put(permit.url, content=CONTENT, headers=permit.headers)).status_code == 200
    held = await uploads.held(ASSET)
    assert held == Held(len(CONTENT), sha256=ASSET.sha256)
    assert held.is_(ASSET)
    # Repeated, what is there stays.
    assert (await device.put(permit.url, content=CONTENT, headers=permit.headers)).status_code == 412
    fetched = await device.get(uploads.download(ASSET, now=wall()))
    assert fetched.content == CONTENT
    assert fetched.headers["content-type"] == "image/jpeg"
    assert "filename*=UTF-8''Gr%C3%BC%C3%9Fe.jpg" in fetched.headers["content-disposition"]
    await uploads.remove(ASSET)
    await uploads.remove(ASSET)
    assert await uploads.held(ASSET) is None


async def test_a_permit_admits_nothing_else_and_not_for_long(
    uploads: UploadStore, device: httpx.AsyncClient, guarded: tuple[str, Guard]
) -> None:
    asset = replace(ASSET, object_key="Photos/cd/3.4")
    permit = uploads.permit(asset, now=wall())

    async def put(url: str = permit.url, content: bytes = CONTENT, header: tuple[str, str] = ("x", "y")) -> int:
        headers = {**permit.headers, header[0]: header[1]}
        return (await device.put(url, content=content, headers=headers)).status_code

    assert await put(content=CONTENT[::-1]) == 400, "another content of that length"
    assert await put(content=b"x", header=("Content-Length", "1")) == 403
    assert await put(header=("x-amz-checksum-sha256", base64.b64encode(sha256(b"").digest()).decode())) == 403
    assert await put(header=("If-None-Match", '"x"')) == 403
    assert await put(header=("Content-Type", "text/html")) == 403
    assert await put(permit.url.replace("3.4", "3.5")) == 403
    assert await put(permit.url.replace("Expires=60", "Expires=6000")) == 403
    assert await put(uploads.permit(asset, now=wall() - 61).url) == 403
    assert (await device.get(permit.url)).status_code == 403
    assert guarded[1].refused == [
        "BadDigest",
        *["SignatureDoesNotMatch"] * 6,
        "AccessDenied: expired",
        "SignatureDoesNotMatch",
    ]
    assert await uploads.held(asset) is None
    assert await put() == 200


async def test_a_wrong_secret_is_said_to_be_our_own_mistake(guarded: tuple[str, Guard], client: StoreClient) -> None:
    wrong = Credentials(KEY.key_id, "wrong")
    uploads = S3Uploads(Bucket("depot", "eu-west-1", guarded[0]), wrong, client, lifetime_s=60, size_max=2**31)
    with pytest.raises(Misconfigured, match="FLEETWIRE_PHOTO_"):
        await uploads.held(ASSET)


async def test_what_was_put_without_its_checksum_proves_nothing(
    uploads: UploadStore, device: httpx.AsyncClient, endpoint: str
) -> None:
    asset = replace(ASSET, object_key="Photos/ab/plain")
    assert (await device.put(f"{endpoint}/depot/{asset.object_key}", content=CONTENT)).status_code == 200
    held = await uploads.held(asset)
    assert held == Held(len(CONTENT))
    assert not held.is_(asset)


def test_a_permit_binds_key_content_and_that_nothing_is_there(client: StoreClient) -> None:
    uploads = S3Uploads(Bucket("depot", "eu-west-1"), KEY, client, lifetime_s=60, size_max=2**40)
    permit = uploads.permit(ASSET, now=1_795_334_400.7)
    assert permit.url.startswith("https://depot.s3.eu-west-1.amazonaws.com/Photos/ab/1.2%20%C3%BC?X-Amz-Algorithm=")
    assert "X-Amz-Date=20261122T080000Z&X-Amz-Expires=60" in permit.url
    signed = "content-length%3Bcontent-type%3Bhost%3Bif-none-match%3Bx-amz-checksum-sha256"
    assert f"X-Amz-SignedHeaders={signed}%3Bx-amz-sdk-checksum-algorithm&" in permit.url
    assert permit.expires_at == 1_795_334_460
    assert permit.headers["x-amz-checksum-sha256"] == base64.b64encode(sha256(CONTENT).digest()).decode()
    assert (permit.headers["If-None-Match"], permit.headers["Content-Length"]) == ("*", str(len(CONTENT)))
    others = [
        replace(ASSET, size=1),
        replace(ASSET, sha256="ab" * 32),
        replace(ASSET, content_type="image/png"),
        replace(ASSET, object_key="Photos/x"),
    ]
    signatures = {uploads.permit(one, now=1_795_334_400.7).url.rpartition("=")[2] for one in [ASSET, *others]}
    assert len(signatures) == 5
    assert uploads.size_max == 5 * 1024**3, "what one PUT takes"
    assert KEY.secret not in f"{permit.url}{permit.headers}{uploads!r}"


async def test_a_bucket_that_is_not_there_holds_nothing(endpoint: str, client: StoreClient) -> None:
    uploads = S3Uploads(Bucket("nowhere", "eu-west-1", endpoint), KEY, client, lifetime_s=60, size_max=2**31)
    assert await uploads.held(ASSET) is None


@pytest.mark.parametrize(("status", "error"), [(403, Misconfigured), (500, StoreUnavailable), (301, StoreUnavailable)])
async def test_an_answer_that_is_none_is_an_error(client: StoreClient, status: int, error: type[Exception]) -> None:
    async with answering(plain(status)) as url:
        uploads = S3Uploads(Bucket("depot", "eu-west-1", url), KEY, client, lifetime_s=60, size_max=2**31)
        with pytest.raises(error):
            await uploads.held(ASSET)
        with pytest.raises(error):
            await uploads.remove(ASSET)


async def test_an_endpoint_that_is_away_is_unavailable(client: StoreClient) -> None:
    bucket = Bucket("depot", "eu-west-1", f"http://127.0.0.1:{free_port()}")
    uploads = S3Uploads(bucket, KEY, client, lifetime_s=60, size_max=2**31)
    with pytest.raises(StoreUnavailable) as caught:
        await uploads.held(ASSET)
    assert "Signature" not in str(caught.value)
