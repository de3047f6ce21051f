"""The operators' page in a real Chromium, with a fleet in motion: what it is like, and pictures of it."""

import asyncio
import io
import time
from pathlib import Path
from typing import Any, Final

from PIL import Image
from playwright.async_api import Browser, Page

from loadtests.page_checks import look, open_browser, watch_shifts

__all__ = ["pictures"]

LOAD_MAX_MS: Final = 1000
SHIFT_MAX: Final = 0.0005
WIDE: Final = (1280, 860)
PHONE: Final = (360, 740)
BYTES_MAX: Final = 200_000
_READY: Final = "() => document.querySelector('.tile .v')?.textContent.match(/[0-9]/)"


async def pictures(api: str, bearer: str, folder: Path) -> dict[str, Any]:
    """Drain and move devices by the page itself, and take pictures of every view. What was found, and the problems."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {"pictures": {}}
    problems: list[str] = []
    async with open_browser() as browser:
        page = await _page(browser, WIDE)
        await watch_shifts(page)
        await _sign_in(page, api, bearer)
        found["load_ms"] = await _load_ms(page, api)
        await asyncio.sleep(25)  # the lines of the last minute fill
        await _take(page, "fleet", folder, found, problems)
        await page.goto(f"{api}/#/flow")
        await asyncio.sleep(4)
        await _take(page, "flow", folder, found, problems)
        await _shift(page, found)
        await _job(page, api, folder, found, problems)
        await _moves(page, api, folder, found, problems)
        await page.close()
        for name, size, scheme, path in (("dark", WIDE, "dark", "fleet"), ("phone", PHONE, "light", "fleet")):
            other = await _page(browser, size, scheme)
            await _sign_in(other, api, bearer)
            await other.goto(f"{api}/#/{path}")
            await asyncio.sleep(20)
            await _take(other, name, folder, found, problems)
            for view in ("flow", "jobs"):
                await other.goto(f"{api}/#/{view}")
                await asyncio.sleep(2)
                problems += [f"{name} {view} {one}" for one in (await look(other)).problems()]
            await other.close()
    if found["load_ms"] > LOAD_MAX_MS:
        problems.append(f"the fleet was shown after {found['load_ms']} ms")
    if found["shift"] > SHIFT_MAX:
        problems.append(f"the page moved by itself: {found['shift']}")
    return found | {"problems": problems}


async def _page(browser: Browser, size: tuple[int, int], scheme: Any = "light") -> Page:
    context = await browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    return await context.new_page()


async def _sign_in(page: Page, api: str, bearer: str) -> None:
    await page.goto(f"{api}/")
    await page.fill("#token", bearer)
    await page.click("button[type=submit]")
    await page.wait_for_function(_READY)


async def _load_ms(page: Page, api: str) -> int:
    """From the wish for the page to the fleet on it, by somebody who is signed in; the best of three."""
    times = []
    for _ in range(3):
        began = time.monotonic()
        await page.goto(f"{api}/")
        await page.wait_for_function(_READY)
        times.append(1000 * (time.monotonic() - began))
    return round(min(times))


async def _shift(page: Page, found: dict[str, Any]) -> None:
    """All that moved by itself since the page was opened."""
    moved: Any = await page.evaluate("() => window.shifts")
    found["shift"] = round(sum(one[0] for one in moved), 5)
    found["shifted"] = moved[:10]


async def _job(page: Page, api: str, folder: Path, found: dict[str, Any], problems: list[str]) -> None:
    """A photo's job, with its files; and a dead one, queued anew by the page."""
    await page.goto(f"{api}/#/jobs?status=done&kind=photo")
    await page.wait_for_selector("tbody a")
    problems += [f"jobs {one}" for one in (await look(page)).problems()]
    await page.click("tbody a")
    await page.wait_for_selector(".history li")
    await _take(page, "job", folder, found, problems)
    await page.goto(f"{api}/#/jobs?status=dead")
    await page.click("tbody a")
    await page.wait_for_selector(".history li")
    await _take(page, "dead", folder, found, problems)
    await page.click("text=Queue anew")
    await page.wait_for_selector(".toasts p")


async def _moves(page: Page, api: str, folder: Path, found: dict[str, Any], problems: list[str]) -> None:
    """Drain a hub, see it come back, and its devices with it."""
    await page.goto(f"{api}/#/fleet")
    card = page.locator(".card", has_text="hub-2")
    await card.locator(".top button").click()
    await page.select_option("#what", "drain")
    await page.click("dialog button[type=submit]")
    await page.wait_for_selector("dialog strong")
    await _take(page, "dry-run", folder, found, problems)
    await page.click("dialog button.sure")
    await card.locator(".badge", has_text="draining").wait_for(timeout=10_000)
    await page.locator(".steer:not([data-idle])").first.wait_for(timeout=60_000)
    await asyncio.sleep(2)
    await _take(page, "moves", folder, found, problems)


async def _take(page: Page, name: str, folder: Path, found: dict[str, Any], problems: list[str]) -> None:
    problems += [f"{name} {one}" for one in (await look(page)).problems()]
    picture = Image.open(io.BytesIO(await page.screenshot()))
    file = folder / f"{name}.webp"
    for quality in (88, 75, 60):
        await asyncio.to_thread(picture.convert("RGB").save, file, "WEBP", quality=quality, method=6)
        if file.stat().st_size < BYTES_MAX:
            break
    found["pictures"][name] = file.stat().st_size
