"""How soon does the grid of a label follow its slider, and how smoothly does it scroll?   python -m benchmarks.grid

5,000 made-up photos, 10,861 labels. Milliseconds from the slider's `input` event to the right tiles and the line in the
DOM, and on to their layout (median / 95th percentile of 60 jumps across the range); frames a second and the 95th
percentile of a frame while the slider is dragged from end to end and while the photos are scrolled by, with pictures
that the server sends; and seconds until a label is there, all counted. Server and browser share this machine. Headless
Chromium lays out and paints, but on no display.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from demo.album import Album, Look, Sheet
from demo.albums import Albums
from demo.corrections import Corrections
from demo.labels import LabelSet
from demo.models import Models, ref_of
from demo.photos import Photo
from demo.settings import Settings
from demo.ui.desk import Desk
from demo.ui.grid_tab import GridTab
from demo.ui.page import launch_options
from demo.ui.tagging import Tagging

PHOTOS, LABELS = 5_000, 10_861
MOVES = 60
SECONDS = 4
PX_A_FRAME = 90

SLIDE = """async (moves) => {
  const slider = document.querySelector('[data-testid=grid-threshold]');
  const [tiles, counts] = ['tiles', 'counts'].map((name) => document.querySelector(`[data-testid=grid-${name}]`));
  const slide = (threshold) => {
    slider.value = threshold;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  };
  const milliseconds = [];
  for (const [threshold, active] of moves) {
    const start = performance.now();
    slide(threshold);
    const inTheDom = performance.now() - start;
    if (!counts.textContent.startsWith(`${active.toLocaleString('en')} active`)) throw active;
    tiles.getBoundingClientRect();
    milliseconds.push([inTheDom, performance.now() - start]);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 30)));
  }
  return milliseconds;
}"""

FRAMES = """async ([seconds, pixels]) => {
  const slider = document.querySelector('[data-testid=grid-threshold]');
  const tiles = document.querySelector('[data-testid=grid-tiles]');
  const start = performance.now();
  const times = [await new Promise(requestAnimationFrame)];
  let most = 0;
  while (performance.now() - start < seconds * 1000) {
    if (pixels) tiles.scrollTop += pixels;
    else {
      slider.value = 0.02 + 0.9 * Math.abs(1 - (times.length % 240) / 120);
      slider.dispatchEvent(new Event('input', { bubbles: true }));
    }
    times.push(await new Promise(requestAnimationFrame));
    most = Math.max(most, document.querySelectorAll('[data-testid=grid-tiles] [data-index]').length);
  }
  return [times, most];
}"""


def made_up_photo(seed: int, most: int = 0) -> bytes:
    """A JPEG of its own for each seed, whatever may be read at `most`."""
    blocks = np.random.default_rng(seed).integers(0, 256, (3, 4, 3), dtype=np.uint8)
    target = io.BytesIO()
    Image.fromarray(blocks).resize((256, 192), Image.Resampling.BICUBIC).save(target, "JPEG")
    return target.getvalue()


def fill(album: Album, sheet: Sheet, photos: int, labels: int) -> np.ndarray:
    """Photos of code and scores (photos, labels) of which few are high, as a tagger's are; gives the scores."""
    album.photos += [Photo(f"photo {seed:05}.jpg", partial(made_up_photo, seed)) for seed in range(photos)]
    album.looks += [Look(hashlib.sha256(made_up_photo(seed)).hexdigest(), "jpg", (256, 192)) for seed in range(photos)]
    scores = np.random.default_rng(0).beta(0.3, 3, (photos, labels)).astype(np.float32)
    scores[:, 0] = np.random.default_rng(1).beta(0.5, 0.7, photos)
    for place in range(photos):
        sheet.put(place, scores[place])
    return scores


def page_of(folder: Path, photos: int = PHOTOS, labels: int = LABELS) -> tuple[gr.Blocks, dict, np.ndarray]:
    """The Grid tab over made-up photos, the arguments of its launch, and scores (photos,) of `label 0`."""
    settings = Settings(corrections=folder / "corrections", device="cpu")
    models, albums = Models(settings), Albums(1, 1, 1)
    models.own.checkpoint.labels = LabelSet(tuple(f"label {number}" for number in range(labels)))
    tagging = Tagging(settings, models, Corrections(settings.corrections), albums, folder / "none")
    sheet = tagging.own_album.sheet(models.own)
    scores = fill(tagging.own_album, sheet, photos, labels)
    with gr.Blocks(analytics_enabled=False) as blocks:
        GridTab(tagging, gr.State(Desk(lambda: ref_of(models.own))))
    options = launch_options(settings, tagging.corrections, albums)
    return blocks, {name: options[name] for name in options if name not in ("js", "quiet", "ssr_mode")}, scores[:, 0]


def moves(scores: np.ndarray) -> list[tuple[float, int]]:
    """Thresholds and how many photos each has active."""
    chosen = np.random.default_rng(1).uniform(0.02, 0.98, MOVES).round(3).tolist()
    return [(threshold, int((scores >= np.float32(threshold)).sum())) for threshold in chosen]


def report(title: str, times: list[float]) -> None:
    frames = np.diff(times)
    print(f"{title:<24}{1000 / frames.mean():>6.0f} frames/s, 95 % of them within {np.percentile(frames, 95):.1f} ms")


def measure(page: Page, url: str, scores: np.ndarray) -> None:
    started = time.perf_counter()
    page.goto(url)
    expect(page.get_by_test_id("grid")).to_have_attribute("data-view", "ready", timeout=120_000)
    print(f"{'the page with a label':<24}{time.perf_counter() - started:>6.1f} s")
    for label in ("label 7", "label 0"):
        started = time.perf_counter()
        page.get_by_test_id("grid-label").fill(label)
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("grid-tiles").locator("[data-index]").first).to_be_visible(timeout=60_000)
        expect(page.get_by_test_id("grid")).to_have_attribute("data-view", "ready")
        print(f"{'another label':<24}{time.perf_counter() - started:>6.1f} s")
    milliseconds = np.array(page.evaluate(SLIDE, moves(scores)))
    (dom, laid), (dom95, laid95) = np.median(milliseconds, 0), np.percentile(milliseconds, 95, 0)
    print(f"{'slider':<24}{dom:>6.1f} / {dom95:.1f} ms to the DOM, {laid:.1f} / {laid95:.1f} ms to its layout")
    report("dragging the slider", page.evaluate(FRAMES, [SECONDS, 0])[0])
    page.get_by_test_id("grid-tiles").evaluate("tiles => tiles.scrollTop = 0")
    times, most = page.evaluate(FRAMES, [SECONDS, PX_A_FRAME])
    report("scrolling", times)
    print(f"{'tiles in the page':<24}{most:>6} at most, of {len(scores):,}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        blocks, options, scores = page_of(Path(folder))
        _, url, _ = blocks.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False, **options
        )
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            measure(browser.new_page(viewport={"width": 1440, "height": 900}), url, scores)
        finally:
            browser.close()
            blocks.close(verbose=False)


if __name__ == "__main__":
    main()
