"""Takes the README's pictures, and one of every state of the page: `make screenshots`, or `python docs/screenshots.py`.

Walks the loop on the embedded checkpoint and the example photos, in a corrections folder of its own; then looks into
tabs in which nothing is yet, and at the page as strangers and people with a login find it.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
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


@contextmanager
def held(models: Models, first: int) -> Iterator[None]:
    """The model answers the first times and then not before this ends: what is seen meanwhile holds still."""
    goes_on, left = threading.Event(), [first]

    def wait(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            goes_on.wait(300)

    hook = models.own.checkpoint.model.register_forward_pre_hook(wait)
    try:
        yield
    finally:
        hook.remove()
        goes_on.set()


def bring_damaged(page: Page, folder: Path) -> None:
    """The examples and a file that is none, while the model is held after one batch."""
    damaged = folder / "1 damaged.jpg"
    damaged.write_bytes(b"\xff\xd8\xff no photo")
    with page.expect_file_chooser() as chooser:
        page.get_by_test_id("add-photos").click()
    chooser.value.set_files([damaged, *sorted(EXAMPLES.glob("*.jpg"))])
    expect(page.locator(".film .reasons")).to_contain_text("damaged")
    expect(page.locator(".film .work")).to_contain_text("of 12")


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


def the_loop(page: Page, models: Models) -> None:
    expect(page.locator("[data-example]").first).to_be_visible()
    shoot(page, "empty")
    refuse(page)
    shoot(page, "error")
    tag(page, "wine")
    shoot(page, "tag")
    explain(page)
    shoot(page, "why")
    page.keyboard.press("h")
    with held(models, 0):
        page.locator('[data-example="coffee"]').click()
        expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "busy")
        shoot(page, "busy")
    expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready")
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


def nothing_yet(page: Page, models: Models) -> None:
    for name, settled in (("corrections", ":has(p)"), ("retrain", ":disabled")):
        page.get_by_role("tab", name=name).click()
        expect(page.locator(f"[data-testid={name}]{settled}")).to_be_visible()
        shoot(page, f"{name}-empty")
    page.get_by_role("tab", name="Tag").click()
    with held(models, 2):  # the photo that is opened and the first batch
        bring_damaged(page, Path.cwd())
        shoot(page, "queue-tagging")


def main() -> None:
    SCREENS.mkdir(exist_ok=True)
    expect.set_options(timeout=120_000)  # a busy machine is slow, not wrong
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright, ExitStack() as ending:
        os.chdir(folder)
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu"],
        )
        models = Models(Settings(device="cpu"))

        def served(name: str, fill: Callable[[Corrections, Models], None] | None = None, **settings: object) -> str:
            """The address of an app with folders of its own."""
            own = Settings(device="cpu", corrections=Path(name, "corrections"), runs=Path(name, "runs"), **settings)
            albums, corrections = Albums(1, own.max_album_photos, own.max_album_bytes), Corrections(own.corrections)
            if fill:
                fill(corrections, models)
            blocks = build_page(own, models, corrections, albums)
            _, url, _ = blocks.launch(
                server_name="127.0.0.1", prevent_thread_lock=True, **launch_options(own, corrections, albums)
            )
            ending.callback(blocks.close)
            return url

        def opened(url: str, **context: str) -> Page:
            page = browser.new_page(viewport={"width": 1440, "height": 900}, **context)
            page.goto(url)
            return page

        full = served("full", correct_the_examples)
        the_loop(opened(full), models)
        page = opened(full, locale="zh-CN")
        tag(page, "pagoda")
        shoot(page, "chinese")
        nothing_yet(opened(served("bare")), models)
        # so it looks to strangers; what is listened on is 127.0.0.1
        page = opened(served("public", host="0.0.0.0", retraining=False))
        tag(page, "wine")
        shoot(page, "public")
        page = opened(served("named", host="0.0.0.0", accounts=(("ann", "secret"),)))
        expect(page.get_by_label("password")).to_be_visible()
        shoot(page, "login")
        browser.close()


if __name__ == "__main__":
    main()
