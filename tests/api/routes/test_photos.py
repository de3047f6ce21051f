import asyncio
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from hashlib import md5, sha256
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest

from shared.store import photos
from shared.store.photos import NewPhoto
from shared.store.pool import Pool
from tests.api.conftest import RunningApi, StartApi, http_client, problem
from tests.api.gateway import RunningGateway, running_gateway
from tests.shared.cloud.cloudinary_emulator import CLOUD, KEY, SECRET, running_emulator
from tests.waiting import until, until_so

PARAMS = "/api/v1/photos/upload-params/"
CONFIRM = "/api/v1/photos/confirm/"
CONTENT = os.urandom(200_000)


def wanted(content: bytes = CONTENT, **changes: Any) -> dict[str, Any]:
    return {
        "name": "load Ü.jpg",
        "content_type": "image/jpeg",
        "size": len(content),
        "sha256": sha256(content).hexdigest(),
    } | changes


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(tmp_path) as running:
        yield running


@pytest.fixture
async def api(start_api: StartApi, gateway: RunningGateway) -> RunningApi:
    return await start_api(FLEETWIRE_FILES_URL=gateway.url)


@pytest.fixture
async def store() -> AsyncIterator[httpx.AsyncClient]:
    """What a device reaches stores with: it has no token."""
    async with http_client(timeout=10) as client:
        yield client


async def reserved(client: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    answer = await client.post(PARAMS, json=wanted(**changes))
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


async def uploaded(client: httpx.AsyncClient, store: httpx.AsyncClient, **changes: Any) -> str:
    """The id of a photo that is at its store and not confirmed."""
    params = await reserved(client, **changes)
    answer = await store.put(params["url"], content=CONTENT, headers=params["headers"])
    assert answer.status_code == 201, answer.text
    return str(params["photo_id"])


async def inspection(sql: asyncpg.Connection, inspector: str, *, is_deleted: bool = False) -> str:
    template, made = uuid4(), uuid4()
    await sql.execute("INSERT INTO templates (template_id, name, version, body) VALUES ($1, 't', 1, '{}')", template)
    await sql.execute(
        "INSERT INTO inspections (inspection_id, inspector_id, template_id, template_version, status, title, answers,"
        " version, is_deleted) VALUES ($1, $2, $3, 1, 'draft', 't', '{}', 1, $4)",
        made,
        inspector,
        template,
        is_deleted,
    )
    return str(made)


async def test_a_photo_is_reserved_uploaded_confirmed_and_fetched(
    api: RunningApi, gateway: RunningGateway, store: httpx.AsyncClient, capsys: pytest.CaptureFixture[str]
) -> None:
    device = api.device("truck-7")
    params = await reserved(device)
    assert params["method"] == "PUT"
    assert params["url"].startswith(gateway.url)
    assert params["confirm_url"] == CONFIRM.rstrip("/")
    assert (await store.put(params["url"], content=CONTENT, headers=params["headers"])).status_code == 201
    answer = await device.post(CONFIRM, json={"photo_id": params["photo_id"]})
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["status"], body["size"], body["sha256"]) == ("stored", len(CONTENT), sha256(CONTENT).hexdigest())
    assert body["url"] == f"/api/v1/photos/{params['photo_id']}"
    for client in (device, api.operator):
        sent = await client.get(body["url"])
        assert (sent.status_code, sent.content) == (302, b"")
        fetched = await store.get(sent.headers["location"])
        assert fetched.content == CONTENT
        assert fetched.headers["content-type"] == "image/jpeg"
        assert "load%20%C3%9C.jpg" in fetched.headers["content-disposition"]
    log = capsys.readouterr().out
    assert "/api/v1/photos/confirm" in log
    assert "signature" not in log, "neither of the gateway's log nor of ours"


async def test_what_was_not_uploaded_is_not_confirmed_and_not_given_out(api: RunningApi) -> None:
    device = api.device("truck-7")
    params = await reserved(device)
    problem(await device.post(CONFIRM, json={"photo_id": params["photo_id"]}), 409, "not-uploaded")
    problem(await device.get(f"/api/v1/photos/{params['photo_id']}"), 404, "not-found")


async def test_only_what_the_store_holds_counts(
    api: RunningApi, gateway: RunningGateway, store: httpx.AsyncClient
) -> None:
    device = api.device("truck-7")
    for content in (b"x" * len(CONTENT), CONTENT[:-1], CONTENT + b"x"):
        photo_id = await uploaded(device, store)
        (file,) = (path for path in gateway.photos() if path.name.startswith(photo_id))
        file.unlink()
        file.write_bytes(content)
        problem(await device.post(CONFIRM, json={"photo_id": photo_id}), 409, "content-mismatch")


async def test_confirming_again_or_many_times_at_once_is_one_photo(
    api: RunningApi, store: httpx.AsyncClient, sql: asyncpg.Connection, gateway: RunningGateway
) -> None:
    device = api.device("truck-7")
    photo_id = await uploaded(device, store)
    answers = await asyncio.gather(*(device.post(CONFIRM, json={"photo_id": photo_id}) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}
    # What is confirmed is not asked of the store again.
    gateway.photos()[0].unlink()
    answers.append(await device.post(CONFIRM, json={"photo_id": photo_id}))
    assert len({answer.text for answer in answers}) == 1
    assert await sql.fetchval("SELECT count(*) FROM photos") == 1


async def test_under_a_key_the_same_request_is_the_same_photo_with_a_fresh_address(
    start_api: StartApi, gateway: RunningGateway, store: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    api = await start_api(FLEETWIRE_FILES_URL=gateway.url, FLEETWIRE_PHOTO_URL_S=1)
    device, key = api.device("truck-7"), {"Idempotency-Key": "one"}
    first = await device.post(PARAMS, json=wanted(), headers=key)
    assert first.status_code == 201
    assert not await sql.fetchval("SELECT count(*) FROM request_keys WHERE strpos(encode(body, 'escape'), 'http') > 0")
    expires_at = datetime.fromisoformat(first.json()["expires_at"])
    await until_so(lambda: datetime.now(UTC) > expires_at, "the address is over")
    late = await store.put(first.json()["url"], content=CONTENT, headers=first.json()["headers"])
    assert late.status_code == 410
    again = await device.post(PARAMS, json=wanted(), headers=key)
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    assert again.json()["photo_id"] == first.json()["photo_id"]
    put = await store.put(again.json()["url"], content=CONTENT, headers=again.json()["headers"])
    assert put.status_code == 201, put.text
    assert (await device.post(CONFIRM, json={"photo_id": first.json()["photo_id"]})).status_code == 200
    problem(await device.post(PARAMS, json=wanted(name="other.jpg"), headers=key), 422, "idempotency-key-reused")
    assert await sql.fetchval("SELECT count(*) FROM photos") == 1


async def test_the_same_request_again_is_the_same_photo_with_a_fresh_address(
    api: RunningApi, store: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    device = api.device("truck-7")
    photo_id = str(uuid4())
    first = await reserved(device, photo_id=photo_id)
    again = await device.post(PARAMS, json=wanted(photo_id=photo_id))
    assert (again.status_code, again.json()["photo_id"]) == (200, photo_id)
    assert again.json()["url"].partition("?")[0] == first["url"].partition("?")[0], "one key, so one upload"
    assert (await store.put(first["url"], content=CONTENT)).status_code == 201
    assert (await store.put(again.json()["url"], content=CONTENT)).status_code == 200
    assert (await device.post(CONFIRM, json={"photo_id": photo_id})).status_code == 200
    done = await device.post(PARAMS, json=wanted(photo_id=photo_id))
    assert (done.status_code, done.json()["status"], done.json()["url"]) == (200, "stored", None)
    assert await sql.fetchval("SELECT count(*) FROM photos") == 1


async def test_fifty_equal_requests_at_once_reserve_one_photo(api: RunningApi, sql: asyncpg.Connection) -> None:
    device, body = api.device("truck-7"), wanted(photo_id=str(uuid4()))
    answers = await asyncio.gather(*(device.post(PARAMS, json=body) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [201]
    assert await sql.fetchval("SELECT count(*) FROM photos") == 1


async def test_an_id_is_one_photo_of_one_owner(api: RunningApi) -> None:
    photo_id = str(uuid4())
    await reserved(api.device("truck-7"), photo_id=photo_id)
    for client, changes in (
        (api.device("truck-7"), {"content": b"other"}),
        (api.device("truck-7"), {"name": "other.jpg"}),
        (api.device("truck-8"), {}),
        (api.operator, {}),
    ):
        answer = await client.post(PARAMS, json=wanted(**changes, photo_id=photo_id))
        assert problem(answer, 409, "photo-exists")["field"] == "photo_id"


async def test_a_photo_of_somebody_else_is_out_of_reach(api: RunningApi, store: httpx.AsyncClient) -> None:
    photo_id = await uploaded(api.device("truck-7"), store)
    other = api.device("truck-8")
    problem(await other.post(CONFIRM, json={"photo_id": photo_id}), 403, "forbidden")
    assert (await api.operator.post(CONFIRM, json={"photo_id": photo_id})).status_code == 200
    problem(await other.get(f"/api/v1/photos/{photo_id}"), 403, "forbidden")
    for client, status in ((api.service, 403), (api.client(), 401)):
        assert (await client.get(f"/api/v1/photos/{photo_id}")).status_code == status
        assert (await client.post(PARAMS, json=wanted())).status_code == status
    problem(await other.get(f"/api/v1/photos/{uuid4()}"), 404, "not-found")
    problem(await other.post(CONFIRM, json={"photo_id": str(uuid4())}), 404, "not-found")


async def test_a_request_that_is_wrong_names_the_member(api: RunningApi) -> None:
    device = api.device("truck-7")
    wrong: list[dict[str, Any]] = [
        *({"name": name} for name in ("../x.jpg", "a\nb", "", "ü" * 101)),
        *({"content_type": kind} for kind in ("text/html", "image/svg+xml", "image/jpeg; a=b")),
        *({"size": size} for size in (0, 2**31 + 1, 2**70, "1")),
        *({"sha256": digest} for digest in ("AB" * 32, "ab" * 32 + "\n", "ab" * 31)),
        {"md5": "ab"},
        {"photo_id": "1"},
        {"inspection_id": "1"},
        {"more": 1},
    ]
    for changes in wrong:
        answer = await device.post(PARAMS, json=wanted(**changes))
        assert problem(answer, 400, "invalid-body")["field"] == next(iter(changes)), changes


async def test_pending_photos_of_one_are_bounded_and_do_not_bound_another(
    start_api: StartApi, gateway: RunningGateway, store: httpx.AsyncClient
) -> None:
    api = await start_api(FLEETWIRE_FILES_URL=gateway.url, FLEETWIRE_PHOTO_PENDING_MAX=3)
    device = api.device("truck-7")
    answers = await asyncio.gather(*(device.post(PARAMS, json=wanted()) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [429] * 9
    refused = next(answer for answer in answers if answer.status_code == 429)
    problem(refused, 429, "too-many-pending")
    assert 86_000 < int(refused.headers["retry-after"]) <= 86_401
    await reserved(api.device("truck-8"))
    made = next(answer.json() for answer in answers if answer.status_code == 201)
    # What is pending may be asked for again, and room is made by confirming it.
    assert (await device.post(PARAMS, json=wanted(photo_id=made["photo_id"]))).status_code == 200
    await store.put(made["url"], content=CONTENT)
    assert (await device.post(CONFIRM, json={"photo_id": made["photo_id"]})).status_code == 200
    await reserved(device)


async def test_a_store_that_does_not_answer_confirms_nothing_and_says_come_back(
    start_api: StartApi, gateway: RunningGateway, store: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    api = await start_api(FLEETWIRE_FILES_URL=gateway.url, FLEETWIRE_PHOTO_DEADLINE_S=2)
    device = api.device("truck-7")
    photo_id = await uploaded(device, store)
    await gateway.server.close()
    answer = await device.post(CONFIRM, json={"photo_id": photo_id})
    problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    assert await sql.fetchval("SELECT status FROM photos") == "pending"


async def test_the_api_may_reach_the_gateway_by_another_address_than_devices(
    start_api: StartApi, tmp_path: Path
) -> None:
    async with running_gateway(tmp_path / "behind", public_url="https://files.example.org") as behind:
        api = await start_api(FLEETWIRE_FILES_URL="https://files.example.org", FLEETWIRE_FILES_INNER_URL=behind.url)
        device = api.device("truck-7")
        params = await reserved(device)
        assert params["url"].startswith("https://files.example.org/v1/files/Photos/")
        async with http_client() as store:
            inner = params["url"].replace("https://files.example.org", behind.url)
            sent = await store.put(inner, content=CONTENT, headers={"Host": "files.example.org"})
            assert sent.status_code == 201
        assert (await device.post(CONFIRM, json={"photo_id": params["photo_id"]})).status_code == 200


async def test_photos_go_where_the_setting_says_and_stay_where_they_are(
    start_api: StartApi, gateway: RunningGateway, store: httpx.AsyncClient
) -> None:
    before = await start_api(FLEETWIRE_FILES_URL=gateway.url)
    kept = await uploaded(before.device("truck-7"), store)
    async with running_emulator() as cloudinary:
        api = await start_api(
            FLEETWIRE_FILES_URL=gateway.url,
            FLEETWIRE_PHOTO_STORE="cloudinary",
            FLEETWIRE_PHOTO_CLOUDINARY_URL=cloudinary.url,
            FLEETWIRE_PHOTO_CLOUDINARY_CLOUD=CLOUD,
            FLEETWIRE_PHOTO_CLOUDINARY_KEY=KEY,
            FLEETWIRE_PHOTO_CLOUDINARY_SECRET=SECRET,
        )
        device = api.device("truck-7")
        content = b"\xff\xd8\xff" + CONTENT
        assert problem(await device.post(PARAMS, json=wanted(content)), 400, "invalid-body")["field"] == "md5"
        params = (await device.post(PARAMS, json=wanted(content, md5=md5(content).hexdigest()))).json()
        assert (params["method"], params["headers"]) == ("POST", {})
        sent = await store.post(params["url"], data=params["fields"], files={"file": content})
        assert sent.status_code == 200
        done = await device.post(CONFIRM, json={"photo_id": params["photo_id"]})
        assert done.json()["status"] == "stored"
        at_store = await device.get(done.json()["url"])
        assert (await store.get(at_store.headers["location"])).content == content
        assert (await device.post(CONFIRM, json={"photo_id": kept})).json()["status"] == "stored"
        cloudinary.faults = {"explicit": ["429"]}
        other = (await device.post(PARAMS, json=wanted(content, md5=md5(content).hexdigest()))).json()
        problem(await device.post(CONFIRM, json={"photo_id": other["photo_id"]}), 503, "unavailable")


async def test_a_photo_in_a_store_that_is_not_set_up_is_not_said_to_be_gone(api: RunningApi, pool: Pool) -> None:
    new = NewPhoto(uuid4(), "device:truck-7", None, "s3", "k", "a.jpg", "image/jpeg", 1, "a" * 64, None)
    await photos.reserve(pool, new, pending_max=9, pending_s=60)
    device = api.device("truck-7")
    problem(await device.post(CONFIRM, json={"photo_id": str(new.photo_id)}), 503, "unavailable")
    await photos.adopt(pool, new.photo_id, new.object_key)
    problem(await device.get(f"/api/v1/photos/{new.photo_id}"), 503, "unavailable")


async def test_a_photo_that_expired_is_over(api: RunningApi, pool: Pool, sql: asyncpg.Connection) -> None:
    device = api.device("truck-7")
    params = await reserved(device)
    await sql.execute("UPDATE photos SET status = 'expired', expires_at = clock_timestamp() + interval '1 h'")
    problem(await device.post(CONFIRM, json={"photo_id": params["photo_id"]}), 410, "photo-expired")
    problem(await device.post(PARAMS, json=wanted(photo_id=params["photo_id"])), 410, "photo-expired")


async def test_a_photo_belongs_to_an_inspection_that_is_there_and_ones_own(
    api: RunningApi, sql: asyncpg.Connection
) -> None:
    own, gone = await inspection(sql, "truck-7"), await inspection(sql, "truck-7", is_deleted=True)
    await reserved(api.device("truck-7"), inspection_id=own)
    await reserved(api.operator, inspection_id=own)
    answer = await api.device("truck-8").post(PARAMS, json=wanted(inspection_id=own))
    assert problem(answer, 403, "forbidden")["field"] == "inspection_id"
    for missing in (gone, str(uuid4())):
        answer = await api.device("truck-7").post(PARAMS, json=wanted(inspection_id=missing))
        assert problem(answer, 404, "not-found")["field"] == "inspection_id"


async def test_the_photos_of_an_inspection_are_listed_page_by_page_newest_first(
    api: RunningApi, sql: asyncpg.Connection, pool: Pool
) -> None:
    own, other = await inspection(sql, "truck-7"), await inspection(sql, "truck-7")
    made = []
    for number in range(5):
        new = NewPhoto(
            uuid4(), "operator:olga", UUID(own), "local", f"k{number}", "a.jpg", "image/jpeg", 1, "a" * 64, None
        )
        await photos.reserve(pool, new, pending_max=9, pending_s=60)
        if number != 2:
            await photos.adopt(pool, new.photo_id, new.object_key)
            made.append(str(new.photo_id))
    device, path = api.device("truck-7"), f"/api/v1/inspections/{own}/photos"
    seen, cursor = [], None
    while True:
        page = await device.get(path, params={"limit": "2"} | ({"cursor": cursor} if cursor else {}))
        assert page.status_code == 200, page.text
        seen += [photo["photo_id"] for photo in page.json()["photos"]]
        cursor = page.json()["next"]
        if cursor is None:
            break
        elsewhere = await device.get(f"/api/v1/inspections/{other}/photos", params={"cursor": cursor})
        assert problem(elsewhere, 400, "invalid-parameter")["field"] == "cursor"
    assert seen == made[::-1]
    # Whose inspection it is may fetch what another took for it.
    assert (await device.get(f"/api/v1/photos/{made[0]}")).status_code == 302
    problem(await api.device("truck-8").get(path), 403, "forbidden")
    problem(await api.operator.get(f"/api/v1/inspections/{uuid4()}/photos"), 404, "not-found")
    assert (await api.operator.get(f"/api/v1/inspections/{other}/photos")).json() == {"photos": [], "next": None}


async def test_what_is_never_confirmed_is_removed_by_an_api_process(
    start_api: StartApi, gateway: RunningGateway, store: httpx.AsyncClient, sql: asyncpg.Connection
) -> None:
    api = await start_api(FLEETWIRE_FILES_URL=gateway.url, FLEETWIRE_PHOTO_SWEEP_S=0.05)
    device = api.device("truck-7")
    kept, left = await uploaded(device, store), await uploaded(device, store)
    assert (await device.post(CONFIRM, json={"photo_id": kept})).status_code == 200
    await sql.execute("UPDATE photos SET expires_at = clock_timestamp() - interval '1 s'")

    async def one_is_left() -> bool:
        return bool(await sql.fetchval("SELECT count(*) = 1 FROM photos"))

    await until(one_is_left, "the other photo removed", deadline_s=20)
    assert [path.name.partition(".")[0] for path in gateway.photos()] == [kept]
    problem(await device.post(CONFIRM, json={"photo_id": left}), 404, "not-found")
