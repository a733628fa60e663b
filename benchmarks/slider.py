"""How soon does the page follow the threshold slider?   python -m benchmarks.slider

Two editors on the same made-up scores: ours, which filters in the browser, and the usual Gradio page, a
`gr.Slider` whose handler sets a `gr.CheckboxGroup`. For each, milliseconds from the slider's `input` event to the
right labels in the DOM and on to their layout (median / 95th percentile of 40 jumps across the range, fewer once they
have taken 20 seconds), and frames a second while the slider is dragged from end to end. Server and browser share
this machine: a network only makes the peer slower. Headless Chromium lays out and paints, but on no display.

Ours a second time with its labels in `CATEGORIES` groups, each with a slider of its own. Then the list of the field
that adds a label: milliseconds from a letter's `input` event to the matches in the DOM, and on to their layout.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import gradio as gr
import numpy as np
from playwright.sync_api import Browser, Page, expect, sync_playwright

from demo.ui.tag_editor import EditorState, TagEditor

SIZES = (20, 1_000, 10_861)
CATEGORIES = ("general", "character", "style")
MOVES, WORDS = 40, 10
SECONDS = 4
PATIENCE_SECONDS = 20

MEASURE = """async ([moves, seconds, patience]) => {
  const slider = document.querySelector('input[type=range]');
  const labels = document.querySelector('[data-testid=tag-editor] .chips, #peer');
  const count = document.querySelector('[data-testid=active-count]');
  const active = () => count ? Number(count.textContent) : labels.querySelectorAll('label.selected').length;
  const slide = (threshold) => {
    slider.value = threshold;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
  };
  const milliseconds = [];
  const began = performance.now();
  for (const [threshold, expected] of moves) {
    const start = performance.now();
    slide(threshold);
    while (active() !== expected) await new Promise((resolve) => {
      const observer = new MutationObserver(() => { observer.disconnect(); resolve(); });
      observer.observe(labels, { subtree: true, childList: true, attributes: true });
    });
    const inTheDom = performance.now() - start;
    labels.getBoundingClientRect();
    milliseconds.push([inTheDom, performance.now() - start]);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 50)));
    if (milliseconds.length > 2 && performance.now() - began > patience * 1000) break;
  }
  const start = performance.now();
  let frames = 0;
  while (performance.now() - start < seconds * 1000) {
    await new Promise(requestAnimationFrame);
    slide(0.02 + 0.9 * Math.abs(1 - (frames++ % 240) / 120));
  }
  return [milliseconds, frames / ((performance.now() - start) / 1000)];
}"""

TYPE = """async (words) => {
  const field = document.querySelector('[data-testid=add-label]');
  const list = document.getElementById(field.getAttribute('aria-controls'));
  const milliseconds = [];
  field.focus();
  for (const word of words) for (let letters = 1; letters <= word.length; letters++) {
    field.value = word.slice(0, letters);
    const start = performance.now();
    field.dispatchEvent(new Event('input', { bubbles: true }));
    const inTheDom = performance.now() - start;
    if (list.hidden || !list.textContent.includes(field.value)) throw field.value;
    list.getBoundingClientRect();
    milliseconds.push([inTheDom, performance.now() - start]);
    await new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve, 20)));
  }
  return milliseconds;
}"""


def made_up(labels: int) -> tuple[list[str], np.ndarray]:
    """Names, and scores (labels,) float32 of which few are high, as a tagger's are."""
    return [f"label {i}" for i in range(labels)], np.random.default_rng(0).beta(0.3, 3, labels).astype(np.float32)


def moves(scores: np.ndarray) -> list[tuple[float, int]]:
    """Thresholds and how many labels each has active, never the same number twice in a row."""
    chosen: list[tuple[float, int]] = []
    for threshold in np.random.default_rng(1).uniform(0.02, 0.9, 50 * MOVES).round(3).tolist():
        active = int((scores >= np.float32(threshold)).sum())
        if not chosen or chosen[-1][1] != active:
            chosen.append((threshold, active))
    return chosen[:MOVES]


def ours(names: Sequence[str], scores: np.ndarray, categories: Sequence[str] = ()) -> gr.Blocks:
    groups = [categories[i % len(categories)] for i in range(len(names))] if categories else ()
    state = EditorState("made up", names, scores, 0.95, categories=groups)
    with gr.Blocks() as blocks:
        editor = TagEditor()
        blocks.load(lambda: state, None, editor, show_progress="hidden")
    return blocks


def in_groups(names: Sequence[str], scores: np.ndarray) -> gr.Blocks:
    return ours(names, scores, CATEGORIES)


def peer(names: Sequence[str], scores: np.ndarray) -> gr.Blocks:
    with gr.Blocks() as blocks:
        slider = gr.Slider(0, 1, 0.95, step=0.001)
        group = gr.CheckboxGroup(list(names), elem_id="peer")
        slider.input(
            lambda threshold: [names[i] for i in np.flatnonzero(scores >= np.float32(threshold))],
            slider,
            group,
            queue=False,
            show_progress="hidden",
            trigger_mode="always_last",
        )
    return blocks


def ready(page: Page) -> None:
    expect(page.locator("[data-testid=tag-editor][data-view=ready], #peer label").first).to_be_attached(timeout=60_000)


def measure(browser: Browser, blocks: gr.Blocks, run: Callable[[Page], Any]) -> Any:
    """What `run` gives of a page with the blocks."""
    _, url, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(300_000)
        page.goto(url)
        ready(page)
        came_to = run(page)
        page.close()
    finally:
        blocks.close(verbose=False)
    return came_to


def columns(milliseconds: list[list[float]]) -> str:
    """Median and 95th percentile of (moves, 2): to the DOM, and to its layout."""
    (dom, laid), (dom95, laid95) = np.median(milliseconds, 0), np.percentile(milliseconds, 95, 0)
    return f"{dom:>8.1f} /{dom95:>8.1f}{laid:>11.1f} /{laid95:>7.1f}"


def main() -> None:
    print(f"{'labels':>7}  {'':<14}{'input → DOM':>18}{'→ layout':>20}{'frames/s':>10}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for size in SIZES:
            names, scores = made_up(size)
            medians = {}
            for title, build in (("ours", ours), ("in groups", in_groups), ("CheckboxGroup", peer)):
                asked = [moves(scores), SECONDS, PATIENCE_SECONDS]
                times, rate = measure(browser, build(names, scores), lambda page: page.evaluate(MEASURE, asked))  # noqa: B023
                medians[title] = np.median(times, 0)[1]
                print(f"{size:>7,}  {title:<14}{columns(times)}{rate:>10.0f}", flush=True)
            words = [names[i] for i in np.random.default_rng(2).integers(0, size, WORDS)]
            typed = measure(browser, ours(names, scores), lambda page: page.evaluate(TYPE, words))  # noqa: B023
            print(f"{size:>7,}  {'adding a label':<14}{columns(typed)}", flush=True)
            print(f"{'':>7}  {medians['CheckboxGroup'] / medians['ours']:.0f} times as fast", flush=True)
        browser.close()


if __name__ == "__main__":
    main()
