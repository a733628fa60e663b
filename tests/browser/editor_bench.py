"""A page with the tag editor alone, and what tests do with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import gradio as gr
import numpy as np
from playwright.sync_api import Locator, Page, expect

from demo.ui.tag_editor import Decisions, EditorState, Status, TagEditor

SKY = ("sky", "catfish", "cat", "long_hair", "tree", "river", "education", "night")
SCORES = (0.95, 0.8, 0.6, 0.35, 0.349, 0.2, 0.1, 0.05)
CURVE = {"threshold": [0.1, 0.5, 0.9], "precision": [0.5, 0.7, None], "recall": [0.9, 0.6, 0.2], "f1": [0.4, 0.8, None]}


def made_up(labels: int) -> EditorState:
    """Scores on the slider's own steps, where a comparison in the wrong precision goes wrong."""
    scores = np.random.default_rng(labels).beta(0.4, 3, labels).round(3).astype(np.float32)
    return EditorState(f"made-up-{labels}", [f"label {i}" for i in range(labels)], scores, 0.35)


def state(**changes: object) -> EditorState:
    given = {"key": "sky", "names": SKY, "scores": np.float32(SCORES), "threshold": 0.35} | changes
    return EditorState(**given)  # type: ignore[arg-type]


class Bench:
    """A page with one editor: pushes values into it and collects what its events deliver."""

    def __init__(self, serve: Callable[[gr.Blocks], str]) -> None:
        self.value: EditorState | Status | None = None
        self.answer = Status("saved", "Saved.")
        self.saved: list[Decisions] = []
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.nexts = 0
        with gr.Blocks() as blocks:
            push, hide, show, outside = (gr.Button(name) for name in ("push", "hide", "show", "outside"))
            with gr.Column() as column:
                editor = TagEditor()
            quiet = {"show_progress": "hidden"}
            push.click(lambda: self.value, None, editor, **quiet)
            hide.click(lambda: gr.Column(visible=False), None, column, **quiet)
            show.click(lambda: gr.Column(visible=True), None, column, **quiet)
            outside.click(lambda: None)
            editor.save(self.save, editor, editor, trigger_mode="multiple", **quiet)
            editor.next(self.go_on, None, None, **quiet)
        self.url = serve(blocks)

    def save(self, decisions: Decisions) -> Status:
        self.saved.append(decisions)
        self.may_answer.wait(20)
        return replace(self.answer, saved=decisions) if self.answer.state == "saved" else self.answer

    def go_on(self) -> None:
        self.nexts += 1


@contextmanager
def held(bench: Bench) -> Iterator[Callable[[], None]]:
    """Saves are answered once what this gives is called."""
    bench.may_answer.clear()
    try:
        yield bench.may_answer.set
    finally:
        bench.may_answer.set()


class Editor:
    """What a test does with the page."""

    def __init__(self, page: Page, bench: Bench) -> None:
        self.page, self.bench = page, bench
        self.root = page.get_by_test_id("tag-editor")
        self.count = page.get_by_test_id("active-count")
        self.slider = page.get_by_test_id("threshold")
        self.field = page.get_by_test_id("add-label")
        self.status = page.get_by_test_id("status")
        self.options = page.get_by_role("option")

    def push(self, value: EditorState | Status | None, view: str = "ready") -> None:
        self.bench.value = value
        with self.page.expect_response("**/queue/data**"):
            self.page.get_by_role("button", name="push").click()
        expect(self.root).to_have_attribute("data-view", view)
        if isinstance(value, EditorState) and len(value.names):
            expect(self.root.locator(".chip").first).to_be_attached()

    def chip(self, name: str) -> Locator:
        return self.page.locator(f"[data-label={_quoted(name)}]")

    def expect_state(self, name: str, state: str) -> None:
        expect(self.chip(name)).to_have_attribute("data-state", state)
        expect(self.chip(name)).to_have_attribute("aria-pressed", str(state in ("active", "confirmed")).lower())

    def slide(self, threshold: float) -> None:
        self.slider.fill(str(threshold))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def save(self, button: str = "save") -> Decisions:
        before = len(self.bench.saved)
        self.page.get_by_test_id(button).click()
        return self.delivered(before)

    def delivered(self, before: int) -> Decisions:
        expect(self.status).to_have_attribute("data-state", self.bench.answer.state)
        assert len(self.bench.saved) == before + 1
        return self.bench.saved[-1]


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def open_editor(page: Page, bench: Bench, theme: str = "light") -> Editor:
    """The bench's page as a visitor finds it."""
    bench.saved.clear()
    bench.answer, bench.nexts = Status("saved", "Saved."), 0
    page.goto(f"{bench.url}?__theme={theme}")
    editor = Editor(page, bench)
    expect(editor.root).to_have_attribute("data-view", "empty")
    return editor


SWEEP = """(root, category) => {
  const [slider, count] = ['threshold', 'active-count'].map((name) =>
    root.querySelector(`[data-testid="${category ? `${name}-${category}` : name}"]`));
  const counts = [], chips = [];
  for (let step = 0; step <= 1000; step++) {
    slider.value = step / 1000;
    slider.dispatchEvent(new Event('input', { bubbles: true }));
    counts.push(Number(count.textContent));
    chips.push(root.querySelectorAll('[data-label]').length);
  }
  return [counts, chips];
}"""
"""Counts and chips at each stop of the main slider, or of a category's."""


CONTRAST = """
  const context = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const light = (colours) => {
    context.fillStyle = '#fff';
    for (const colour of ['#fff', ...colours]) { context.fillStyle = colour; context.fillRect(0, 0, 1, 1); }
    const [r, g, b] = [...context.getImageData(0, 0, 1, 1).data].slice(0, 3).map((c) => c / 255)
      .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (node) => {
    const behind = [];
    for (let at = node; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const [a, b] = [light(behind), light([...behind, getComputedStyle(node).color])];
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
"""
"""`contrast(node)`, of a node's text to all that lies behind it, as WCAG 2.1 has it."""

CONTRASTS = (
    """root => {"""
    + CONTRAST
    + """
  const worst = {};
  for (const node of root.querySelectorAll('.chip bdi, .chip small, .band, .rest, .count span, .status, .value, ' +
      '.actions button, .keys span, .keys button, .add > kbd, .title bdi, .title output, .tuned span, .curve, ' +
      '.curve span, .curve button, .ways button, dt kbd, dd, header h2, h3, header button, ' +
      '.reset, td[style], .number, .quiet')) {
    if (node.disabled) continue;
    const name = node.className || node.tagName + '@' + (node.parentElement.dataset.state ?? '');
    worst[name] = Math.min(worst[name] ?? 99, contrast(node));
  }
  return worst;
}"""
)
