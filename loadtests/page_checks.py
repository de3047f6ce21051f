"""What a page must be like, looked at in a real Chromium: quick, still while it lives, named, readable, narrow enough.

Chromium is the system's own (Debian's package `chromium`); Playwright only drives it.
"""

import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from playwright.async_api import Browser, Page, async_playwright

__all__ = ["CHROMIUM", "PageReport", "look", "open_browser", "watch_shifts"]

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
"""Where it is; None: there is none."""

_SHIFTS: Final = """
window.shifts = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries())
    if (!entry.hadRecentInput)
      window.shifts.push([entry.value, ...entry.sources.map((one) => one.node?.className || one.node?.nodeName)]);
}).observe({ type: "layout-shift", buffered: true });
"""
_CHECKS: Final = (Path(__file__).parent / "page_checks.js").read_text("utf-8").rstrip()
_ALL: Final = "[checks.unnamed(), checks.faint(), checks.tooWide()]"


class PageReport(NamedTuple):
    """What a look found. `too_wide` are pixels beyond the window."""

    unnamed: list[str]
    faint: list[str]
    too_wide: int

    def problems(self) -> Iterator[str]:
        """As sentences."""
        yield from (f"has no name: {one}" for one in self.unnamed)
        yield from (f"is hard to read: {one}" for one in self.faint)
        if self.too_wide > 0:
            yield f"is {self.too_wide} px wider than the window"


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Chromium for a while. Raises RuntimeError where there is none."""
    if CHROMIUM is None:
        raise RuntimeError("chromium is not installed (apt-get install chromium)")
    async with async_playwright() as playwright:
        # Root has no sandbox; what is opened here is our own page.
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=60_000)
        try:
            yield browser
        finally:
            await browser.close()


async def watch_shifts(page: Page) -> None:
    """Before the page is opened: note whatever moves by itself, as `window.shifts`."""
    await page.add_init_script(_SHIFTS)


async def look(page: Page) -> PageReport:
    """The page as it stands."""
    found: Any = await page.evaluate(f"() => {{ const checks = {_CHECKS}; return {_ALL}; }}")
    return PageReport(list(found[0]), list(found[1]), int(found[2]))
