"""The open photo and the way to the next one: no picture under another's chips, no decision that goes astray."""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Route, expect

from demo.ui.tag_editor import Status
from demo.ui.tag_tab import TagTab
from tests.browser.test_page import Site
from tests.browser.test_queue import facts, tiles

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load

WATCH = """() => {
  const scores = () => [...document.querySelectorAll("[data-label]")].map((chip) => chip.dataset.score).join();
  const picture = () => document.querySelector("#image img");
  const [before, old] = [scores(), picture().currentSrc];
  window.seen = { frames: 0, wrong: 0 };
  const look = () => {
    if (scores() !== before) {
      window.seen.frames++;
      const { visibility } = getComputedStyle(picture());
      if (picture().currentSrc === old && visibility === "visible") window.seen.wrong++;
    }
    requestAnimationFrame(look);
  };
  look();
}"""
"""Count the frames with other chips than now, and among them those that show the picture of now."""


@pytest.fixture
def start(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Callable[..., Site]:
    return lambda **settings: Site(page, serve, tmp_path, tiny_checkpoint, **settings)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], threading.Event]]:
    """Hold a step of the Tag tab back until what this gives is set."""
    gates: list[threading.Event] = []

    def close(name: str) -> threading.Event:
        step, may_run = getattr(TagTab, name), threading.Event()
        gates.append(may_run)

        def late(*arguments: object) -> object:
            may_run.wait(20)
            return step(*arguments)

        monkeypatch.setattr(TagTab, name, functools.wraps(step)(late))
        return may_run

    yield close
    for may_run in gates:
        may_run.set()


def test_the_picture_before_is_not_seen_under_the_chips_of_the_next_image(start: Callable[..., Site]) -> None:
    site, held = start(), []
    site.pick("cat")
    site.page.wait_for_function("document.querySelector('#image img')?.complete")
    expect(site.image).to_have_attribute("alt", "cat.jpg")
    box, score = site.image.bounding_box(), site.chips.first.get_attribute("data-score")
    site.page.evaluate(WATCH)
    site.page.route("**/file=**", lambda route: held.append(route))
    site.page.locator("[data-example=dogs]").click()
    expect(site.chips.first).not_to_have_attribute("data-score", score)
    expect(site.image).to_be_hidden()
    expect(site.image).to_have_attribute("alt", "dogs.jpg")
    assert site.image.bounding_box() == box
    site.page.wait_for_function("window.seen.frames > 3")
    held.pop().continue_()
    expect(site.image).to_be_visible()
    assert site.page.evaluate("window.seen.wrong") == 0
    assert site.image.evaluate("image => image.complete && image.naturalWidth > 0")


def test_a_picture_that_cannot_be_loaded_gives_way_to_its_name(start: Callable[..., Site]) -> None:
    site = start()
    site.pick("cat")

    def spoil(route: Route) -> None:
        route.fulfill(status=200, content_type="image/jpeg", body=b"no image")

    site.page.wait_for_function("document.querySelector('#image img')?.complete")
    site.page.route("**/file=**", spoil)
    site.page.locator("[data-example=dogs]").click()
    site.page.wait_for_function("document.querySelector('#image img').naturalWidth === 0")
    expect(site.image).to_have_css("visibility", "visible")
    expect(site.image).to_have_attribute("alt", "dogs.jpg")


def test_what_is_pressed_until_the_next_photo_is_there_decides_nothing(
    start: Callable[..., Site], image_folder: Path, gate: Callable[[str], threading.Event]
) -> None:
    may_answer = gate("_follow")
    may_answer.set()
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    may_answer.clear()
    site.chips.nth(2).focus()
    chip = site.chips.nth(1).bounding_box()
    with site.page.expect_request("**/queue/join**"):
        site.page.keyboard.press("n")
    for key in ("1", "]", "s", "a", "n", "p", "Space"):
        site.page.keyboard.press(key)
    site.page.mouse.click(chip["x"] + 5, chip["y"] + 5)
    expect(site.page.locator("[data-state=rejected], [data-state=confirmed]")).to_have_count(0)
    may_answer.set()
    expect(facts(site)).to_contain_text("2 of 8")
    expect(site.id("tag-editor")).to_be_focused()
    expect(site.page.locator("[data-state=rejected], [data-state=confirmed]")).to_have_count(0)
    expect(site.id("threshold")).to_have_value("0.4")
    site.page.keyboard.press("1")
    expect(site.chips.first).to_have_attribute("data-state", "rejected")
    site.chips.first.click()
    site.page.keyboard.press("p")
    expect(facts(site)).to_contain_text("1 of 8")
    expect(site.page.locator("[data-state=rejected], [data-state=confirmed]")).to_have_count(0)
    expect(tiles(site, "e")).to_have_count(0)
    assert site.page.evaluate("tagloopUnsaved.size") == 0


def test_what_is_pressed_after_done_is_neither_of_the_photo_that_is_saved_nor_of_the_next(
    start: Callable[..., Site], image_folder: Path, gate: Callable[[str], threading.Event]
) -> None:
    may_save = gate("_save")
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    label = site.chips.first.get_attribute("data-label")
    site.id("tag-editor").focus()
    site.page.keyboard.press("1")
    with site.page.expect_request("**/queue/join**"):
        site.page.keyboard.press("d")
    for key in ("1", "2", "d", "n"):
        site.page.keyboard.press(key)
    may_save.set()
    expect(facts(site)).to_contain_text("2 of 8")
    expect(site.page.locator("[data-state=rejected], [data-state=confirmed]")).to_have_count(0)
    expect(tiles(site, "d")).to_have_count(1)
    expect(tiles(site, "e")).to_have_count(0)
    [row] = site.rows()
    assert json.loads(row["rejected"]) == [label]


def test_a_save_that_fails_gives_the_photo_back(
    start: Callable[..., Site], image_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tab: TagTab, decisions: object, desk: object) -> tuple:
        return Status("error", "The disk is full."), tab.queue.value(desk), desk

    monkeypatch.setattr(TagTab, "_save", refuse)
    site = start(images=image_folder)
    expect(facts(site)).to_contain_text("1 of 8")
    site.id("tag-editor").focus()
    site.page.keyboard.press("d")
    expect(site.id("status")).to_have_text("The disk is full.")
    site.page.keyboard.press("1")
    expect(site.chips.first).to_have_attribute("data-state", "rejected")
    site.chips.nth(1).click()
    expect(site.chips.nth(1)).not_to_have_attribute("data-state", "active")
    expect(facts(site)).to_contain_text("1 of 8")


def test_next_after_the_last_example_ends_with_no_image_and_its_key_still_acts(start: Callable[..., Site]) -> None:
    site = start()
    site.page.locator("[data-example]").last.click()
    expect(site.chips.first).to_be_visible()
    site.id("tag-editor").focus()
    site.page.keyboard.press("n")
    expect(site.id("tag-editor")).to_have_attribute("data-view", "empty")
    site.page.keyboard.press("n")
    expect(site.chips.first).to_be_visible()


def test_a_screen_reader_is_told_which_photo_has_come(
    start: Callable[..., Site], image_folder: Path, make_image: Callable[..., bytes]
) -> None:
    site = start(images=image_folder)
    said = site.id("tag-editor").locator(".announcer")
    expect(said).to_contain_text("1 of 8, 0.png. ")
    site.id("next").click()
    expect(facts(site)).to_contain_text("2 of 8")
    site.id("tag-editor").focus()
    site.page.keyboard.press("]")  # within the moment that it takes
    count = site.id("active-count").inner_text()
    expect(said).to_have_text(f"2 of 8, 1.png. {count} labels active")
    expect(site.image).to_have_accessible_name("1.png")
    site.page.keyboard.press("[")
    count = site.id("active-count").inner_text()
    expect(said).to_have_text(f"{count} labels active")
    site.upload(make_image(99), "my cat.png")
    expect(site.image).to_have_accessible_name("my cat.png")
