import time

import jwt

from shared.hash_slots import owners, slot_of
from shared.store import devices, hubs
from shared.store.cursors import Greeting, greet
from shared.store.pool import Pool
from tests.api.conftest import TICKET_RING, RunningApi, StartApi, hub, problem, token
from tests.servers import ServerProcess

PATH = "/api/v1/devices/truck-7/connection"
NAMES = ["hub-1", "hub-2", "hub-3"]
ORDER = list(owners(slot_of("truck-7"), NAMES))


async def three_hubs(pool: Pool) -> None:
    for name in NAMES:
        await hub(pool, name)


async def test_the_owner_comes_first_and_the_others_in_hash_order(api: RunningApi, pool: Pool) -> None:
    await three_hubs(pool)
    body = (await api.device("truck-7").get(PATH)).json()
    assert body["hub"] == ORDER[0]
    assert body["url"] == f"ws://{ORDER[0]}.test:8101/v1/socket"
    assert body["alternatives"] == [{"hub": name, "url": f"ws://{name}.test:8101/v1/socket"} for name in ORDER[1:]]
    assert body["mode"] == "direct"


async def test_the_ticket_is_for_this_device_once_and_soon(api: RunningApi, pool: Pool) -> None:
    await three_hubs(pool)
    bearer = token("truck-7", lifetime_s=3000, device_class="office")
    first, second = [(await api.client(bearer).get(PATH)).json()["ticket"] for _ in range(2)]
    ticket = TICKET_RING.verify_ticket(first, now=time.time())
    assert ticket.subject == "truck-7"
    assert ticket.device_class == "office"
    assert 50 < ticket.admission_expires_at - time.time() <= 60
    assert ticket.session_expires_at == jwt.decode(bearer, options={"verify_signature": False})["exp"]
    assert TICKET_RING.verify_ticket(second, now=time.time()).token_id != ticket.token_id


async def test_a_ticket_lives_no_longer_than_the_token(api: RunningApi, pool: Pool) -> None:
    await three_hubs(pool)
    body = (await api.client(token("truck-7", lifetime_s=5)).get(PATH)).json()
    assert TICKET_RING.verify_ticket(body["ticket"], now=time.time()).admission_expires_at <= time.time() + 5


async def test_full_and_leaving_hubs_are_passed_over(api: RunningApi, pool: Pool) -> None:
    await hub(pool, ORDER[0], connections=500)
    await hub(pool, ORDER[1], draining=True)
    await hub(pool, ORDER[2], connections=499)
    body = (await api.device("truck-7").get(PATH)).json()
    assert (body["hub"], body["alternatives"]) == (ORDER[2], [])


async def test_a_full_hub_keeps_the_device_it_holds(api: RunningApi, pool: Pool) -> None:
    await devices.ensure(pool, "truck-7", "truck")
    await hub(pool, "hub-1", connections=500)
    problem(await api.device("truck-7").get(PATH), 503, "no-hub")
    await greet(pool, [Greeting("truck-7", "run", 1, "hub-1")])
    assert (await api.device("truck-7").get(PATH)).json()["hub"] == "hub-1"


async def test_without_a_hub_the_device_is_told_when_to_come_back(start_api: StartApi, pool: Pool) -> None:
    api = await start_api(FLEETWIRE_HUB_SILENCE_S=0.2)
    refused = await api.device("truck-7").get(PATH)
    problem(refused, 503, "no-hub")
    assert 2 <= int(refused.headers["retry-after"]) <= 8
    await hub(pool, "hub-1")
    assert (await api.device("truck-7").get(PATH)).json()["hub"] == "hub-1"
    await hubs.leave(pool, "hub-1", "hub-1-run")
    problem(await api.device("truck-7").get(PATH), 503, "no-hub")


async def test_behind_a_proxy_the_url_names_the_hub_to_it(start_api: StartApi, pool: Pool) -> None:
    api = await start_api(FLEETWIRE_PROXY_URL="wss://edge.test/")
    await three_hubs(pool)
    body = (await api.device("truck-7").get(PATH)).json()
    assert body["mode"] == "proxy"
    assert body["url"] == f"wss://edge.test/v1/socket?hub={ORDER[0]}"
    assert body["alternatives"][0]["url"] == f"wss://edge.test/v1/socket?hub={ORDER[1]}"


async def test_a_device_that_never_was_exists_afterwards(api: RunningApi, pool: Pool) -> None:
    await three_hubs(pool)
    assert (
        await api.client(token("office-1", device_class="office")).get(PATH.replace("truck-7", "office-1"))
    ).is_success
    state = await devices.get(pool, "office-1")
    assert state is not None
    assert state.device_class == "office"


async def test_only_the_device_itself_gets_a_ticket(api: RunningApi, pool: Pool) -> None:
    await three_hubs(pool)
    problem(await api.device("truck-8").get(PATH), 403, "forbidden")
    problem(await api.operator.get(PATH), 403, "forbidden")
    problem(await api.service.get(PATH), 403, "forbidden")


async def test_devices_connect_publish_and_poll_while_redis_is_down_or_hangs(
    start_api: StartApi, pool: Pool, valkey_server: object
) -> None:
    assert callable(valkey_server)
    valkey: ServerProcess = valkey_server()
    api = await start_api(FLEETWIRE_REDIS_URL=valkey.url)
    await three_hubs(pool)
    for break_it in (valkey.pause, valkey.kill):
        break_it()
        device = api.device("truck-7")
        assert (await device.get(PATH)).status_code == 200
        published = await api.service.post(
            "/api/v1/events", json={"events": [{"device_id": "truck-7", "type": "Test", "data": {}}]}
        )
        assert published.json()["results"][0]["status"] == "recorded"
        page = (await device.get("/api/v1/devices/truck-7/events")).json()
        acked = await device.post("/api/v1/devices/truck-7/acks", json={"position": page["position"]})
        assert acked.json()["position"] == page["position"]
        assert (await device.get("/ready")).status_code == 200
