"""The operators' page in a real Chromium, against all of Fleetwire."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import httpx
import pytest
from playwright.async_api import Page, expect

from loadtests.page_checks import CHROMIUM, look, open_browser, watch_shifts
from tests.api.jobs import add_job
from tests.e2e.conftest import Site, until

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")

TABLE = b"city,temperature\nUlm,4\nKiel,7\n"
# A busy machine is slow, and is not what is judged here.
DEADLINE_MS = 20_000


@asynccontextmanager
async def opened(site: Site, *, width: int = 1280) -> AsyncIterator[Page]:
    async with open_browser() as browser:
        context = await browser.new_context(viewport={"width": width, "height": 800})
        context.set_default_timeout(DEADLINE_MS)
        page = await context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        await watch_shifts(page)
        await page.goto(f"{site.machine.api}/")
        yield page
        assert [text for text in said if "401" not in text] == []


async def shown(page: Page, selector: str, text: str | re.Pattern[str]) -> None:
    await expect(page.locator(selector).first).to_have_text(text, timeout=DEADLINE_MS)


COUNT_TURNS = """() => {
  window.shifts.length = 0;
  window.turns = 0;
  new MutationObserver(() => { window.turns += 1; }).observe(document.body,
    { subtree: true, childList: true, characterData: true, attributes: true });
}"""


async def test_an_operator_signs_in_and_finds_the_fleet_a_job_and_its_files_and_what_a_drain_would_do(
    site: Site,
) -> None:
    device = site.new_device("seen")
    operator = site.machine.token("olga", "operator")
    await _make(site, device)
    site.drop(f"Requests/{device}/weather.csv", TABLE)
    connection = await asyncpg.connect(site.machine.database_url)
    await add_job(connection, device, status="dead", name="panorama.jpg")
    await connection.close()
    async with opened(site) as page:
        await page.fill("#token", "nonsense")
        await page.click("button[type=submit]")
        await shown(page, "[role=alert]", re.compile("token"))
        await page.fill("#token", operator)
        await page.click("button[type=submit]")
        await shown(page, ".card .badge", "ready")
        assert operator not in page.url
        assert operator not in str(
            await page.evaluate("() => JSON.stringify([localStorage, sessionStorage, document.cookie])")
        )
        await page.fill("input[type=search]", device)
        await shown(page, "tbody td", device)
        assert list((await look(page)).problems()) == []

        await page.click("nav >> text=Flow")
        await shown(page, ".stages b", "Detected")
        await expect(page.locator("tbody").first).to_contain_text("local", timeout=DEADLINE_MS)
        assert list((await look(page)).problems()) == []

        await _ended(site, device)
        await page.goto(f"{site.machine.api}/#/jobs?device_id={device}&status=done")
        await page.click("tbody a")
        await shown(page, "h1", "weather.csv")
        await expect(page.locator(".history .badge").first).to_have_text("done")
        async with page.expect_download() as download:
            await page.locator("td a").first.click()
        assert (await (await download.value).path()).stat().st_size > 0
        assert list((await look(page)).problems()) == []

        await page.goto(f"{site.machine.api}/#/jobs?device_id={device}&status=dead")
        await page.click("tbody a")
        await page.click("text=Queue anew")
        await shown(page, ".toasts p", "Queued anew.")

        await page.goto(f"{site.machine.api}/#/fleet")
        await page.click(".card button")
        await page.select_option("#what", "drain")
        await page.click("dialog button[type=submit]")
        await expect(page.locator("dialog .said").first).to_contain_text("no other hub", timeout=DEADLINE_MS)
        await expect(page.locator("dialog button.sure")).to_be_enabled()
        assert list((await look(page)).problems()) == []
        await page.keyboard.press("Escape")

        # What moves because somebody went elsewhere is no shift; from here on nobody does anything.
        await page.evaluate(COUNT_TURNS)
        await page.wait_for_function("() => window.turns >= 3", timeout=DEADLINE_MS)
        shifts: Any = await page.evaluate("() => window.shifts")
        assert sum(one[0] for one in shifts) < 0.01, shifts
        await page.click("text=Sign out")
        await page.wait_for_selector("#token")


async def test_a_phone_shows_all_of_it_within_its_width(site: Site) -> None:
    async with opened(site, width=360) as page:
        assert list((await look(page)).problems()) == []
        await page.fill("#token", site.machine.token("olga", "operator"))
        await page.keyboard.press("Enter")
        for view, selector in (("fleet", ".card .badge"), ("flow", ".stages b"), ("jobs", "tbody td")):
            await page.goto(f"{site.machine.api}/#/{view}")
            await page.wait_for_selector(selector)
            assert list((await look(page)).problems()) == [], view


async def _make(site: Site, device: str) -> None:
    async with site_client(site) as client:
        answer = await client.put(f"/api/v1/devices/{device}", json={"class": "truck"})
        assert answer.is_success, answer.text


async def _ended(site: Site, device: str) -> None:
    async def both() -> bool:
        async with site_client(site) as client:
            jobs = (await client.get("/api/v1/jobs", params={"device_id": device})).json()["jobs"]
        return sorted(job["status"] for job in jobs) == ["dead", "done"]

    await until(both, "the request is answered", 30)


def site_client(site: Site) -> httpx.AsyncClient:
    headers = {"Authorization": f"Bearer {site.machine.token('olga', 'operator')}"}
    return httpx.AsyncClient(base_url=site.machine.api, headers=headers, timeout=10, trust_env=False)
