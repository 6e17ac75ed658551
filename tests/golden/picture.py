"""Take the README's picture from a kept report, in the real browser: run by ``make picture``."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).resolve().parents[2]
REPORT = ROOT / "reports" / "09-anonymous-kubelet.html"
PICTURE = ROOT / "docs" / "report.png"
_SCALE = 0.8  # about as wide as a README is shown
ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")


def main() -> None:
    """Write the first screen of the report and its map as one picture."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("no Chromium browser is installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        page = browser.new_page(
            viewport={"width": 1280, "height": 900}, color_scheme="light", device_scale_factor=_SCALE
        )
        page.goto(REPORT.as_uri())
        legend = page.locator("#legend").bounding_box()
        assert legend is not None
        height = round(legend["y"] + legend["height"] + 24)
        page.set_viewport_size({"width": 1280, "height": height})
        PICTURE.parent.mkdir(exist_ok=True)
        page.screenshot(path=PICTURE)
        browser.close()


if __name__ == "__main__":
    main()
