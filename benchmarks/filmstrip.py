"""How smoothly does the filmstrip scroll over a big folder?   python -m benchmarks.filmstrip

5,000 made-up photos that are tagged already, thumbnails sent by the server: seconds until the strip and the first
photo are there, frames a second and the 95th percentile of a frame while the strip is scrolled, how many tiles are
in the page at most, and milliseconds from *Next* to the next photo's labels (median / 95th percentile of 40). Server
and browser share this machine. Headless Chromium lays out and paints, but on no display.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import gradio as gr
import numpy as np
from playwright.sync_api import Page, expect, sync_playwright

from benchmarks.grid import PX_A_FRAME, SECONDS, fill, report
from demo.albums import Albums
from demo.corrections import Corrections
from demo.models import Models, ref_of
from demo.settings import Settings
from demo.ui.desk import Desk
from demo.ui.page import launch_options
from demo.ui.tag_tab import TagTab
from demo.ui.tagging import Tagging

PHOTOS, NEXTS = 5_000, 40

SCROLL = """async ([seconds, pixels]) => {
  const strip = document.querySelector('[data-testid=strip]');
  const start = performance.now();
  const times = [await new Promise(requestAnimationFrame)];
  let most = 0;
  while (performance.now() - start < seconds * 1000) {
    strip.scrollLeft += pixels;
    times.push(await new Promise(requestAnimationFrame));
    most = Math.max(most, strip.querySelectorAll('[data-place]').length);
  }
  return [times, most];
}"""

NEXT = """async () => {
  const facts = document.querySelector('.facts');
  const before = facts.textContent;
  const start = performance.now();
  document.querySelector('[data-testid=next]').click();
  while (facts.textContent === before) await new Promise((resolve) => {
    const observer = new MutationObserver(() => { observer.disconnect(); resolve(); });
    observer.observe(facts, { subtree: true, childList: true, characterData: true });
  });
  return performance.now() - start;
}"""


def page_of(folder: Path) -> tuple[gr.Blocks, dict]:
    """The Tag tab over made-up photos that are tagged, and the arguments of its launch."""
    settings = Settings(corrections=folder / "corrections", images=folder, device="cpu")
    models, albums = Models(settings), Albums(1, 1, 1)
    tagging = Tagging(settings, models, Corrections(settings.corrections), albums)
    names = models.own.checkpoint.labels.names
    fill(tagging.own_album, tagging.own_album.sheet(models.own), PHOTOS, len(names))
    with gr.Blocks(analytics_enabled=False) as blocks:
        desk = gr.State(Desk(lambda: ref_of(models.own)))
        tab = TagTab(tagging, desk)
        blocks.load(tab.first_value, desk, [tab.examples, tab.strip], show_progress="hidden")
    options = launch_options(settings, tagging.corrections, albums)
    return blocks, {name: options[name] for name in options if name not in ("quiet", "ssr_mode")}


def measure(page: Page, url: str) -> None:
    started = time.perf_counter()
    page.goto(url)
    expect(page.get_by_test_id("tag-editor")).to_have_attribute("data-view", "ready", timeout=120_000)
    print(f"{'the page with a photo':<24}{time.perf_counter() - started:>6.1f} s")
    times, most = page.evaluate(SCROLL, [SECONDS, PX_A_FRAME])
    report("scrolling", times)
    print(f"{'tiles in the page':<24}{most:>6} at most, of {PHOTOS:,}")
    took = [page.evaluate(NEXT) for _ in range(NEXTS)]
    print(f"{'next':<24}{np.median(took):>6.0f} / {np.percentile(took, 95):.0f} ms")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        blocks, options = page_of(Path(folder))
        _, url, _ = blocks.launch(
            server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False, **options
        )
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        try:
            measure(browser.new_page(viewport={"width": 1440, "height": 900}), url)
        finally:
            browser.close()
            blocks.close(verbose=False)


if __name__ == "__main__":
    main()
