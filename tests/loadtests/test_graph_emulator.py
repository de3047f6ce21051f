"""The emulated Graph is as strict and as forgetful as Graph: what our client never does is refused, too."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.emulators.graph import DRIVE, GraphEmulator, running_graph
from loadtests.emulators.graph_login import CLIENT_ID, CLIENT_SECRET, TENANT
from loadtests.emulators.graph_uploads import FRAGMENT

ROOT = f"/v1.0/drives/{DRIVE}/root"
FAIL = {"@microsoft.graph.conflictBehavior": "fail"}


@pytest.fixture
async def graph(tmp_path: Path) -> AsyncIterator[GraphEmulator]:
    async with running_graph(tmp_path) as emulator:
        yield emulator


@pytest.fixture
async def http(graph: GraphEmulator) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=graph.url, trust_env=False, verify=False) as client:
        form = {"grant_type": "client_credentials", "client_id": CLIENT_ID, "client_secret": CLIENT_SECRET}
        told = await client.post(
            f"/{TENANT}/oauth2/v2.0/token", data=form | {"scope": "https://graph.microsoft.com/.default"}
        )
        client.headers["Authorization"] = f"Bearer {told.json()['access_token']}"
        yield client


async def page(http: httpx.AsyncClient, where: str, **headers: str) -> dict[str, Any]:
    answer = await http.get(where, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert ("@odata.nextLink" in found) != ("@odata.deltaLink" in found)
    return found


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


async def session(http: httpx.AsyncClient, name: str = "a", **item: object) -> str:
    answer = await http.post(f"{ROOT}:/{name}:/createUploadSession", json={"item": {**FAIL, **item}})
    assert answer.status_code == 200, answer.text
    url: str = answer.json()["uploadUrl"]
    return url


async def fragment(http: httpx.AsyncClient, url: str, start: int, content: bytes, total: int) -> httpx.Response:
    span = {"Content-Range": f"bytes {start}-{start + len(content) - 1}/{total}"}
    request = http.build_request("PUT", url, content=content, headers=span)
    del request.headers["Authorization"]
    return await http.send(request)


async def test_a_delta_row_of_business_lacks_paths_tags_and_of_what_is_deleted_the_name(
    graph: GraphEmulator, http: httpx.AsyncClient
) -> None:
    graph.write("x/a", b"a")
    first = await page(http, f"{ROOT}/delta")
    [row] = [one for one in first["value"] if "file" in one]
    assert {"cTag"} & row.keys() == set()
    assert "path" not in row["parentReference"]
    graph.remove("x/a")
    second = await page(http, first["@odata.deltaLink"])
    [gone] = [one for one in second["value"] if "deleted" in one]
    assert gone.keys() == {"id", "parentReference", "deleted", "file"}


async def test_a_change_drags_its_folders_in_unless_that_is_not_wanted(
    graph: GraphEmulator, http: httpx.AsyncClient
) -> None:
    graph.write("x/y/a", b"a")
    link = (await page(http, f"{ROOT}/delta"))["@odata.deltaLink"]
    graph.write("x/y/a", b"b")
    assert [one["name"] for one in (await page(http, link))["value"]] == ["root", "x", "y", "a"]
    assert [one["name"] for one in (await page(http, link, deltaExcludeParent="1"))["value"]] == ["a"]


async def test_tokens_die_after_so_many_changes_and_are_no_less_dead_in_the_middle_of_a_run(
    graph: GraphEmulator, http: httpx.AsyncClient
) -> None:
    graph.drive.manners.token_life_changes = 5
    link = (await page(http, f"{ROOT}/delta"))["@odata.deltaLink"]
    for number in range(5):
        graph.write("a", b"%d" % number)
    assert (await page(http, link))["value"]
    graph.write("a", b"one more")
    dead = await http.get(link)
    assert code(dead) == (410, "resyncChangesApplyDifferences")
    assert (await page(http, dead.headers["location"]))["value"]
    assert code(await http.get(f"{ROOT}/delta?token=nonsense")) == (400, "invalidRequest")


async def test_a_run_may_begin_at_the_latest_change_or_at_a_time(graph: GraphEmulator, http: httpx.AsyncClient) -> None:
    graph.write("a", b"a")
    graph.clock.advance(100)
    now = graph.clock.iso()
    graph.clock.advance(1)
    assert (await page(http, f"{ROOT}/delta?token=latest"))["value"] == []
    graph.write("b", b"b")
    names = [one["name"] for one in (await page(http, f"{ROOT}/delta?token={now}"))["value"]]
    assert names == ["root", "b"]
    assert code(await http.get(f"{ROOT}:/x:/delta"))[0] == 404
    graph.write("x/y", b"")
    assert code(await http.get(f"{ROOT}:/x:/delta")) == (400, "invalidRequest")


async def test_names_fold_case_and_times_are_told_to_the_second(graph: GraphEmulator, http: httpx.AsyncClient) -> None:
    assert (await http.put(f"{ROOT}:/A.txt:/content", content=b"1")).status_code == 201
    found = (await http.get(f"{ROOT}:/a.TXT")).json()
    assert found["name"] == "A.txt"
    assert "." not in found["lastModifiedDateTime"]
    assert (await http.put(f"{ROOT}:/a.txt:/content", content=b"2")).status_code == 200, "a put replaces by itself"
    put = f"{ROOT}:/a.txt:/content?@microsoft.graph.conflictBehavior="
    assert code(await http.put(f"{put}fail", content=b"3")) == (409, "nameAlreadyExists")
    assert (await http.put(f"{put}rename", content=b"3")).json()["name"] == "a 1.txt"
    assert code(await http.put(f"{ROOT}:/a%7Cb:/content", content=b"")) == (400, "invalidRequest")


async def test_fragments_come_in_order_in_multiples_of_320_kib_and_without_a_token(
    graph: GraphEmulator, http: httpx.AsyncClient
) -> None:
    total = 2 * FRAGMENT + 5
    url = await session(http)
    assert (await fragment(http, url, 0, b"x" * (FRAGMENT + 1), total)).status_code == 400
    assert code(await fragment(http, url, FRAGMENT, b"x" * FRAGMENT, total)) == (416, "invalidRange")
    shown = await http.put(url, content=b"x" * FRAGMENT, headers={"Content-Range": f"bytes 0-{FRAGMENT - 1}/{total}"})
    assert shown.status_code == 401
    taken = await fragment(http, url, 0, b"x" * FRAGMENT, total)
    assert (taken.status_code, taken.json()["nextExpectedRanges"]) == (202, [f"{FRAGMENT}-{total - 1}"])
    assert code(await fragment(http, url, 0, b"x" * FRAGMENT, total)) == (416, "invalidRange")
    assert (await fragment(http, url, FRAGMENT, b"x" * FRAGMENT, total + 1)).status_code == 400
    graph.write("A", b"taken")
    assert (await fragment(http, url, FRAGMENT, b"x" * FRAGMENT, total)).status_code == 202
    assert code(await fragment(http, url, 2 * FRAGMENT, b"x" * 5, total)) == (409, "nameAlreadyExists")
    refused = await http.post(f"{ROOT}:/b:/createUploadSession", json={"item": {**FAIL, "fileSize": 5}})
    assert code(refused) == (400, "invalidRequest")
    graph.clock.advance(20 * 86_400)
    assert (await fragment(http, url, 0, b"x", total)).status_code == 404


async def test_units_are_counted_by_the_minute_and_told_from_four_fifths_on(
    graph: GraphEmulator, http: httpx.AsyncClient
) -> None:
    graph.meter.limit = 10
    link = (await page(http, f"{ROOT}/delta"))["@odata.deltaLink"]
    assert graph.meter.spent == 2
    answers = [await http.get(link) for _ in range(9)]
    assert [one.status_code for one in answers] == [200] * 8 + [429]
    assert "ratelimit-remaining" not in answers[0].headers
    assert answers[7].headers["ratelimit-remaining"] == "0"
    wait_s = int(answers[8].headers["retry-after"])
    assert 1 <= wait_s <= 60
    assert (await http.get(link)).status_code == 429
    assert graph.meter.early == 1
    graph.clock.advance(wait_s)
    assert (await http.get(link)).status_code == 200


async def test_the_control_address_does_what_a_test_does(graph: GraphEmulator, http: httpx.AsyncClient) -> None:
    fault = {"call": "item", "status": 503, "retry_after": "2"}
    told = await http.post(
        "/control", json={"fill": {"folder": "Requests", "count": 6, "folders": 2}, "faults": [fault], "limit": 1000}
    )
    assert (told.json()["files"], len(told.json()["faults"])) == (6, 1)
    answer = await http.get(f"{ROOT}:/Requests")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert (await http.post("/control", json={"nothing": 1})).status_code == 400
    assert (await http.post("/control", json={"manners": {"nothing": 1}})).status_code == 400
    assert graph.script.faults == []


async def test_a_hook_that_is_often_slow_is_told_later(graph: GraphEmulator) -> None:
    from loadtests.emulators.graph_hooks import _Receiver

    receiver = _Receiver()
    receiver.replies.extend([False] * 90)
    assert not receiver.slow
    receiver.replies.extend([True] * 10)
    assert receiver.slow
