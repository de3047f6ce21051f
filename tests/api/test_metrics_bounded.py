"""What the API tells of itself does not grow with who asks: neither with devices nor with what tokens say of them."""

from tests.api.conftest import RunningApi, token


async def series(api: RunningApi) -> set[str]:
    page = (await api.client().get(f"{api.ops_url}/metrics")).text
    return {line.rpartition(" ")[0] for line in page.splitlines() if not line.startswith("#")}


async def test_the_series_of_the_api_are_the_same_for_two_devices_and_for_more(api: RunningApi) -> None:
    async def asks(numbers: range) -> None:
        for number in numbers:
            name, made_up = f"truck-series-{number}", f"class-{number}"
            device = api.client(token(name, device_class=made_up))
            assert (await device.get(f"/api/v1/devices/{name}/events")).status_code == 200
            assert (await device.get(f"/api/v1/devices/{name}-other/events")).status_code == 403
            assert (await device.get(f"/nowhere/{name}")).status_code == 404

    await asks(range(2))
    before = await series(api)
    await asks(range(2, 14))
    grown = await series(api) - before
    assert not [one for one in grown if "fleetwire_api_" in one], grown
    assert not [one for one in await series(api) if "truck-series" in one or "class-" in one]
