"""Takes the README's pictures, and one of every state of the page: `make screenshots`, or `python docs/screenshots.py`.

Walks the loop on the embedded checkpoint and the example photos, in a corrections folder of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"

from PIL import Image  # noqa: E402
from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402

from demo.albums import Albums  # noqa: E402
from demo.corrections import Corrections  # noqa: E402
from demo.images import extension  # noqa: E402
from demo.models import Models  # noqa: E402
from demo.settings import EXAMPLES, Settings  # noqa: E402
from demo.ui.page import build_page, launch_options  # noqa: E402

SCREENS = ROOT / "docs" / "screens"
SIZES = {"": (1440, 900), "-phone": (390, 844)}
SEEN = {
    "astronaut": ["person"],
    "coffee": ["cup", "dining table"],
    "dogs": ["dog"],
    "nuthatch": ["bird", "trees"],
    "pagoda": ["trees"],
    "polar-bear": ["bear"],
    "snowy-mountains": ["mountain"],
    "sunset": ["sunset", "mountain"],
    "wine": ["wine glass", "bottle", "dining table"],
}


def tag(page: Page, example: str) -> None:
    page.locator(f'[data-example="{example}"]').click()
    expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready")
    expect(page.locator("[data-label]").first).to_be_visible()


def fix(page: Page) -> None:
    """There are no skis on that meadow, but there are trees."""
    page.locator('[data-label="skis"]').click()
    page.get_by_test_id("add-label").fill("trees")
    page.get_by_test_id("add-label").press("Enter")
    page.get_by_test_id("save").click()
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")


def refuse(page: Page) -> None:
    file = {"name": "photo.jpg", "mimeType": "image/jpeg", "buffer": b"\xff\xd8\xff no photo"}
    page.locator("input[type=file]").first.set_input_files(file)  # type: ignore[arg-type]
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "error")


def explain(page: Page) -> None:
    page.get_by_test_id("tag-editor").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("h")
    expect(page.get_by_test_id("heatmap").locator("img")).to_be_visible()


def bring(page: Page) -> None:
    """The examples as a folder of one's own, all but the cat saved already."""
    with page.expect_file_chooser() as chooser:
        page.get_by_test_id("add-photos").click()
    chooser.value.set_files(sorted(EXAMPLES.glob("*.jpg")))
    expect(page.locator(".facts p")).to_contain_text("of 11")
    expect(page.locator(".film .work")).to_be_hidden()


def finish(page: Page) -> None:
    page.get_by_test_id("save").click()
    expect(page.get_by_test_id("status")).to_have_attribute("data-state", "saved")
    page.get_by_test_id("next").click()
    expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "done")


def open_grid(page: Page) -> None:
    page.get_by_role("tab", name="Grid").click()
    grid = page.get_by_test_id("grid")
    expect(grid).to_have_attribute("data-view", "ready")
    page.get_by_test_id("grid-label").fill("mountain")
    page.keyboard.press("Enter")
    expect(grid.locator(".tile p b").first).to_be_visible()
    shown = "[...document.querySelectorAll('.tile:not([hidden]) img[src]')]"
    page.wait_for_function(f"{shown}.every((img) => img.naturalWidth)")


def retrain(page: Page) -> None:
    page.get_by_role("tab", name="Retrain").click()
    page.get_by_test_id("retrain").click()
    expect(page.get_by_test_id("retrain-progress")).to_have_attribute("data-state", "running")


def wait_for_model(page: Page) -> None:
    expect(page.get_by_test_id("retrain-progress")).to_have_attribute("data-state", "done", timeout=300_000)


def correct_the_examples(corrections: Corrections, models: Models) -> None:
    """What a person would have saved for the other photos."""
    checkpoint = models.own.checkpoint
    for name, labels in SEEN.items():
        data = (EXAMPLES / f"{name}.jpg").read_bytes()
        corrections.save(
            data,
            extension(data),
            labels=labels,
            rejected=[],
            reviewed="all",
            model_labels=labels,
            threshold=checkpoint.threshold,
            model=checkpoint.identity,
            vocabulary=checkpoint.labels.names,
        )


def main() -> None:
    SCREENS.mkdir(exist_ok=True)
    expect.set_options(timeout=120_000)  # a busy machine is slow, not wrong
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        os.chdir(folder)
        settings = Settings(device="cpu")
        models, albums = Models(settings), Albums(1, settings.max_album_photos, settings.max_album_bytes)
        corrections = Corrections(settings.corrections)
        correct_the_examples(corrections, models)
        page_of_app = build_page(settings, models, corrections, albums)
        options = launch_options(settings, corrections, albums)
        _, url, _ = page_of_app.launch(server_name="127.0.0.1", prevent_thread_lock=True, **options)
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )

        def shoot(page: Page, name: str) -> None:
            """In light and dark, at both sizes; the page keeps its state."""
            page.mouse.move(0, 0)
            for scheme in ("", "-dark"):
                page.evaluate("dark => document.body.classList.toggle('dark', dark)", scheme == "-dark")
                for suffix, (width, height) in SIZES.items():
                    page.set_viewport_size({"width": width, "height": height})
                    path = SCREENS / f"{name}{suffix}{scheme}.png"
                    page.screenshot(path=path, full_page=bool(suffix), animations="disabled")
                    Image.open(path).convert("RGB").quantize(256).save(path, optimize=True)  # a third of the bytes
            page.evaluate("() => document.body.classList.remove('dark')")
            page.set_viewport_size({"width": 1440, "height": 900})

        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.goto(url)
        expect(page.locator("[data-example]").first).to_be_visible()
        shoot(page, "empty")
        refuse(page)
        shoot(page, "error")
        tag(page, "wine")
        shoot(page, "tag")
        explain(page)
        shoot(page, "why")
        page.keyboard.press("h")
        tag(page, "autumn trees")
        fix(page)
        shoot(page, "fix")
        page.get_by_test_id("show-keys").click()
        shoot(page, "keys")
        page.keyboard.press("Escape")
        bring(page)
        shoot(page, "queue")
        finish(page)
        shoot(page, "done")
        open_grid(page)
        shoot(page, "grid")
        page.get_by_role("tab", name="Corrections").click()
        expect(page.get_by_test_id("corrections").locator("img").first).to_be_visible()
        shoot(page, "corrections")
        retrain(page)
        shoot(page, "retrain-running")
        wait_for_model(page)
        shoot(page, "retrain")
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="zh-CN")
        page.goto(url)
        tag(page, "pagoda")
        shoot(page, "chinese")
        browser.close()
        page_of_app.close()


if __name__ == "__main__":
    main()
