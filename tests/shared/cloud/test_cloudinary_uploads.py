import hashlib
import os
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from shared.clock import wall
from shared.cloud.cloudinary_uploads import Cloudinary, CloudinaryUploads
from shared.cloud.errors import Misconfigured, StoreUnavailable
from shared.cloud.store_client import StoreClient
from shared.cloud.uploads import Asset, Held, UploadPermit, UploadStore
from tests.shared.cloud.cloudinary_emulator import CLOUD, KEY, SECRET, Emulator, running_emulator

CONTENT = b"\xff\xd8\xff" + os.urandom(5000)
MD5 = hashlib.md5(CONTENT).hexdigest()
ASSET = Asset("Photos/ab/1.2", "a.jpg", "image/jpeg", len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), MD5)


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with running_emulator() as running:
        yield running


@pytest.fixture
async def client() -> AsyncIterator[StoreClient]:
    made = StoreClient(deadline_s=5)
    yield made
    await made.close()


@pytest.fixture
async def device() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as made:
        yield made


@pytest.fixture
def uploads(emulator: Emulator, client: StoreClient) -> CloudinaryUploads:
    account = Cloudinary(emulator.url, CLOUD, KEY, SECRET)
    return CloudinaryUploads(account, client, lifetime_s=60, size_max=2**31)


async def post(device: httpx.AsyncClient, permit: UploadPermit, content: bytes, **changes: str) -> httpx.Response:
    return await device.post(permit.url, data=dict(permit.fields) | changes, files={"file": content})


async def test_a_photo_is_posted_asked_for_fetched_and_removed(
    uploads: UploadStore, emulator: Emulator, device: httpx.AsyncClient
) -> None:
    assert await uploads.held(ASSET) is None
    permit = uploads.permit(ASSET, now=wall())
    assert (permit.method, permit.headers) == ("POST", {})
    assert (await post(device, permit, CONTENT)).status_code == 200
    held = await uploads.held(ASSET)
    assert held == Held(len(CONTENT), md5=MD5)
    assert held.is_(ASSET)
    assert (await device.get(uploads.download(ASSET, now=wall()))).content == CONTENT
    assert (await device.get(uploads.download(ASSET, now=wall() - 120))).status_code == 404
    await uploads.remove(ASSET)
    await uploads.remove(ASSET)
    assert emulator.assets == {}


async def test_accounts_that_sign_by_sha256_are_signed_for(
    emulator: Emulator, client: StoreClient, device: httpx.AsyncClient
) -> None:
    emulator.algorithm = "sha256"
    account = Cloudinary(emulator.url, CLOUD, KEY, SECRET, "sha256")
    uploads = CloudinaryUploads(account, client, lifetime_s=60, size_max=2**31)
    assert (await post(device, uploads.permit(ASSET, now=wall()), CONTENT)).status_code == 200
    assert await uploads.held(ASSET) == Held(len(CONTENT), md5=MD5)


async def test_a_second_upload_changes_nothing(
    uploads: UploadStore, emulator: Emulator, device: httpx.AsyncClient
) -> None:
    permit = uploads.permit(ASSET, now=wall())
    await post(device, permit, CONTENT)
    again = await post(device, permit, CONTENT + b"other")
    assert (again.status_code, again.json()["existing"], again.json()["etag"]) == (200, True, MD5)
    assert list(emulator.assets.values()) == [CONTENT]


async def test_other_content_is_taken_by_cloudinary_and_not_by_us(
    uploads: UploadStore, device: httpx.AsyncClient
) -> None:
    await post(device, uploads.permit(ASSET, now=wall()), CONTENT[:-1] + b"x")
    held = await uploads.held(ASSET)
    assert held is not None
    assert not held.is_(ASSET)


async def test_a_permit_admits_nothing_else(
    uploads: UploadStore, emulator: Emulator, device: httpx.AsyncClient
) -> None:
    permit = uploads.permit(ASSET, now=wall())
    for change in ({"public_id": "x"}, {"overwrite": "true"}, {"type": "upload"}, {"tags": "a"}, {"timestamp": "1"}):
        assert (await post(device, permit, CONTENT, **change)).status_code == 401
    assert (await post(device, permit, b"GIF8" + CONTENT)).status_code == 400, "not of the announced format"
    assert (await post(device, uploads.permit(ASSET, now=wall() - 3700), CONTENT)).status_code == 401
    assert emulator.assets == {}


async def test_no_secret_is_in_what_a_device_gets_or_a_log_shows(uploads: CloudinaryUploads) -> None:
    permit = uploads.permit(ASSET, now=wall())
    assert SECRET not in str((permit.fields, permit.url, uploads.download(ASSET, now=wall())))
    assert SECRET not in f"{uploads!r} {uploads._account!r}"
    assert permit.fields["signature"] not in repr(permit)


@pytest.mark.parametrize("fault", ["500", "420", "429", "html", "huge", "forged", "another"])
async def test_an_answer_that_is_none_proves_nothing(
    uploads: UploadStore, emulator: Emulator, device: httpx.AsyncClient, fault: str
) -> None:
    await post(device, uploads.permit(ASSET, now=wall()), CONTENT)
    emulator.faults = {"explicit": [fault]}
    with pytest.raises(StoreUnavailable):
        await uploads.held(ASSET)
    assert await uploads.held(ASSET) == Held(len(CONTENT), md5=MD5)


@pytest.mark.parametrize("fault", ["500", "html"])
async def test_a_removal_that_was_not_said_is_none(uploads: UploadStore, emulator: Emulator, fault: str) -> None:
    emulator.faults = {"destroy": [fault]}
    with pytest.raises(StoreUnavailable):
        await uploads.remove(ASSET)
    await uploads.remove(ASSET)


async def test_a_store_that_hangs_is_given_up(emulator: Emulator) -> None:
    client = StoreClient(deadline_s=0.1)
    uploads = CloudinaryUploads(Cloudinary(emulator.url, CLOUD, KEY, SECRET), client, lifetime_s=60, size_max=2**31)
    emulator.faults = {"explicit": ["hang"]}
    with pytest.raises(StoreUnavailable):
        await uploads.held(ASSET)
    await client.close()


async def test_a_wrong_secret_is_said_to_be_our_own_mistake(emulator: Emulator, client: StoreClient) -> None:
    uploads = CloudinaryUploads(Cloudinary(emulator.url, CLOUD, KEY, "wrong"), client, lifetime_s=60, size_max=2**31)
    with pytest.raises(Misconfigured, match="FLEETWIRE_PHOTO_"):
        await uploads.held(ASSET)


def test_it_says_what_it_cannot_take(uploads: UploadStore) -> None:
    assert uploads.refusal(ASSET) is None
    assert (uploads.refusal(replace(ASSET, md5=None)) or ("",))[0] == "md5"
    assert (uploads.refusal(replace(ASSET, content_type="image/x-raw")) or ("",))[0] == "content_type"
    assert uploads.size_max == 100_000_000
