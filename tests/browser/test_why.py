"""Why? in a real browser: the map of the label that is looked at lies on the picture; nothing is asked otherwise."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Locator, Page, Request, expect

from demo.heatmaps import Heatmaps
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load


SHOWN = """() => {
  const [map, names] = [document.querySelector('[data-testid="heatmap"]'), []];
  new MutationObserver(() => {
    const name = map.querySelector('bdi')?.textContent;
    if (!map.hidden && !map.querySelector('img').hidden && names.at(-1) !== name) names.push(name);
  }).observe(map, { subtree: true, childList: true, attributes: true });
  return names;
}"""
"""The labels whose maps are shown from now on."""


class Looking(Site):
    """A site whose requests for maps are counted and can be held back."""

    def __init__(self, page: Page, *arguments: object, **settings: object) -> None:
        self.asked: list[str] = []
        page.on("request", self._count)
        super().__init__(page, *arguments, **settings)

    def _count(self, request: Request) -> None:
        if request.method == "POST" and "/queue/join" in request.url:
            data = request.post_data_json.get("event_data") or {}
            if "turn" in data and "label" in data:
                self.asked.append(data["label"])

    @property
    def map(self) -> Locator:
        return self.id("heatmap")

    def expect_map_of(self, label: str) -> None:
        expect(self.map.locator("figcaption")).to_contain_text("What speaks for")
        expect(self.map.locator("bdi")).to_have_text(label)
        expect(self.map.locator("img")).to_be_visible()


@pytest.fixture
def site(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Looking:
    return Looking(page, serve, tmp_path, tiny_checkpoint)


def opened(site: Looking, data: bytes) -> list[str]:
    """The labels of the chips, once the image is tagged."""
    site.upload(data)
    expect(site.chips.first).to_be_visible()
    return site.chips.evaluate_all("chips => chips.map(chip => chip.dataset.label)")


def test_nothing_is_asked_while_the_switch_is_off_nor_by_the_slider(
    site: Looking, make_image: Callable[..., bytes]
) -> None:
    labels = opened(site, make_image(1))
    expect(site.id("why")).not_to_be_checked()
    site.chip(labels[0]).hover()
    site.chip(labels[0]).focus()
    site.id("why").check()
    slide = "(range, to) => { range.value = to; range.dispatchEvent(new Event('input', { bubbles: true })) }"
    for level in (0.1, 0.9, 0.3, 0.6):
        site.id("threshold").evaluate(slide, level)
    label = site.chips.first.get_attribute("data-label")
    site.chips.first.hover()
    site.expect_map_of(label)
    assert site.asked == [label]


def test_the_map_follows_the_pointer_and_goes_with_it_and_each_is_asked_once(
    site: Looking, make_image: Callable[..., bytes]
) -> None:
    labels = opened(site, make_image(1))[:2]
    site.id("why").check()
    for label in (*labels, *labels):
        site.chip(label).hover()
        site.expect_map_of(label)
    site.id("add-label").hover()
    expect(site.map).to_be_hidden()
    assert site.asked == labels


def test_h_shows_the_map_of_the_label_in_focus_and_takes_it_away(
    site: Looking, make_image: Callable[..., bytes]
) -> None:
    labels = opened(site, make_image(1))
    site.page.mouse.move(2, 2)
    site.id("add-label").press("h")
    expect(site.id("why")).not_to_be_checked()
    site.id("add-label").fill("")
    site.id("tag-editor").focus()
    site.page.keyboard.press("ArrowRight")
    site.page.keyboard.press("h")
    expect(site.id("why")).to_be_checked()
    site.expect_map_of(labels[0])
    site.page.keyboard.press("ArrowRight")
    site.expect_map_of(labels[1])
    site.page.keyboard.press("Escape")
    expect(site.map).to_be_hidden()
    site.page.keyboard.press("ArrowLeft")
    site.expect_map_of(labels[0])
    site.page.keyboard.press("h")
    expect(site.map).to_be_hidden()
    assert all(
        chip in ("active", "candidate") for chip in site.chips.evaluate_all("all => all.map(c => c.dataset.state)")
    )


@pytest.mark.parametrize(
    ("size", "turn"), [((96, 64), 1), ((40, 200), 1), ((96, 64), 6)], ids=["wide", "tall", "turned"]
)
def test_the_map_covers_the_picture_and_nothing_else(site: Looking, size: tuple[int, int], turn: int) -> None:
    """Red on grey, so that the picture's own edges are seen in a screenshot: the map tints all of it and no more."""
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.new("RGB", size, (255, 0, 0)).save(file, "JPEG", exif=exif, quality=95)
    labels = opened(site, file.getvalue())
    before = red_box(site)
    site.id("why").check()
    site.chip(labels[0]).hover()
    site.expect_map_of(labels[0])
    site.page.evaluate("document.querySelector('[data-testid=heatmap] figcaption').style.display = 'none'")
    site.page.evaluate("document.querySelector('[data-testid=heatmap]').style.background = 'rgb(0, 0, 255)'")
    site.page.evaluate("document.querySelector('[data-testid=heatmap] img').style.display = 'none'")
    blue = np.argwhere(pixels(site) @ [-1, -1, 1] > 200)
    assert np.abs(np.concatenate([blue.min(0), blue.max(0)]) - before).max() <= 1
    width, height = (size[1], size[0]) if turn == 6 else size
    (top, left), (bottom, right) = blue.min(0), blue.max(0)
    assert (right - left) / (bottom - top) == pytest.approx(width / height, rel=0.02)


def pixels(site: Looking) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(site.page.screenshot(animations="disabled"))).convert("RGB"), np.int64)


def red_box(site: Looking) -> np.ndarray:
    """Top, left, bottom and right of the red picture on the screen."""
    expect(site.image).to_be_visible()
    site.page.wait_for_function("document.querySelector('#image img').complete")
    red = np.argwhere(pixels(site) @ [1, -1, -1] > 200)
    return np.concatenate([red.min(0), red.max(0)])


def test_an_answer_that_comes_late_is_not_shown(
    site: Looking, make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = opened(site, make_image(1))[:2]
    site.id("why").check()
    gate, slow = threading.Event(), Heatmaps.of
    monkeypatch.setattr(Heatmaps, "of", lambda *arguments: gate.wait(20) and slow(*arguments))
    for label in labels:
        site.chip(label).hover()
        expect(site.map.locator("figcaption")).to_have_text(f"Looking for what speaks for {label}")
    shown = site.page.evaluate_handle(SHOWN)
    gate.set()
    site.expect_map_of(labels[1])
    assert site.page.evaluate("names => names", shown) == labels[1:]

    gate.clear()
    site.chips.nth(2).hover()
    expect(site.map.locator("figcaption")).to_contain_text("Looking for")
    old = site.chips.nth(2).element_handle()
    site.page.mouse.move(2, 2)
    site.upload(make_image(2))
    old.wait_for_element_state("hidden")
    expect(site.map).to_be_hidden()
    gate.set()
    label = site.chips.first.get_attribute("data-label")
    site.chips.first.hover()
    site.expect_map_of(label)
    assert site.page.evaluate("names => names", shown) == [*labels[1:], label]


def test_the_switch_stays_for_the_session_and_a_model_without_places_says_so(
    site: Looking, make_image: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.id("why").check()
    expect(site.page.locator("[data-example]").first).to_be_visible()
    site.open()
    expect(site.id("why")).to_be_checked()
    for block in site.models.own.checkpoint.model.blocks:
        monkeypatch.setattr(block.attn, "fused_attn", False)
    labels = opened(site, make_image(1))
    site.chip(labels[0]).hover()
    expect(site.map.locator("figcaption")).to_contain_text("There is no map for this model.")
    expect(site.map.locator("img")).to_be_hidden()


def test_a_label_held_by_a_finger_is_looked_at_and_not_decided_on(
    site: Looking, make_image: Callable[..., bytes]
) -> None:
    labels = opened(site, make_image(1))
    site.id("why").check()
    site.page.mouse.move(2, 2)
    chip = site.chip(labels[0])
    before = chip.get_attribute("data-state")
    chip.dispatch_event("pointerdown", {"pointerType": "touch", "bubbles": True})
    site.expect_map_of(labels[0])
    chip.dispatch_event("pointerup", {"pointerType": "touch", "bubbles": True})
    chip.dispatch_event("click")
    expect(chip).to_have_attribute("data-state", before)
    chip.dispatch_event("pointerdown", {"pointerType": "touch", "bubbles": True})
    chip.dispatch_event("pointerup", {"pointerType": "touch", "bubbles": True})
    chip.dispatch_event("click")
    expect(chip).not_to_have_attribute("data-state", before)
