"""Draws the pictures of the page for the README: `python docs/make_space_images.py`.

They show the report in `spaces/examples`, so that nothing is measured; Chromium has to be there.
"""

from __future__ import annotations

import shutil
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from hf_ess.space.app import Address, App, Settings

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "spaces" / "examples"
STATE = "&metric=tolerance&threshold=0.1&layer=2&position=13"
PICTURES = {
    "space-wide": {"width": 1280, "height": 1640, "scheme": "light", "from": "#hfess-view"},
    "space-phone": {"width": 390, "height": 1500, "scheme": "dark", "from": ".hfess-controls"},
}


def _picture(browser: Browser, address: str, made: dict[str, str | int]) -> Image.Image:
    context = browser.new_context(
        viewport={"width": int(made["width"]), "height": 900},
        color_scheme=made["scheme"],  # type: ignore[arg-type]
    )
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector(".hfess-figure-block path", state="attached")
    page.wait_for_timeout(1000)
    whole = Image.open(BytesIO(page.screenshot(full_page=True)))
    box = page.locator(str(made["from"])).bounding_box()
    assert box is not None
    top = max(round(box["y"]) - 16, 0)
    context.close()
    return whole.crop((0, top, whole.width, min(top + int(made["height"]), whole.height)))


def main() -> None:
    """Writes every picture into `docs/images`."""
    with TemporaryDirectory() as results, sync_playwright() as playwright:
        app = App(Settings(reports=(str(EXAMPLES),), results=Path(results)))
        try:
            key = app.gallery.entries()[0].key
            address = f"{app.start(Address(host='127.0.0.1'))}?view={key}{STATE}"
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            for name, made in PICTURES.items():
                path = ROOT / "docs" / "images" / f"{name}.png"
                _picture(browser, address, made).convert("RGB").save(path, optimize=True)
                print(f"wrote {path.relative_to(ROOT)}")
            browser.close()
        finally:
            app.stop()


if __name__ == "__main__":
    main()
