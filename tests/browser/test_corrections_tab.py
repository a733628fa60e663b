"""The Corrections tab by itself, in a real browser: figures by label, and downloads for other tools."""

from __future__ import annotations

import json
import re
import socket
import zipfile
from collections.abc import Callable
from pathlib import Path

import gradio as gr
import pytest
from playwright.sync_api import Locator, Page, expect

from demo.albums import Albums
from demo.corrections import Corrections
from demo.settings import Settings
from demo.tables import read_table
from demo.ui.corrections_tab import CorrectionsTab
from demo.ui.page import launch_options
from tests.browser.editor_bench import CONTRASTS

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load
HOSTILE = '<img src=x onerror="throw 1">'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Tab:
    """The tab on a page of its own, over the corrections of one folder."""

    def __init__(self, page: Page, serve: Callable[..., str], folder: Path) -> None:
        self.page, self.corrections = page, Corrections(folder / "corrections")
        with gr.Blocks(analytics_enabled=False) as blocks:
            tab = CorrectionsTab(self.corrections)
            blocks.load(tab.look, None, tab.shown)
        options = launch_options(Settings(corrections=folder / "corrections"), self.corrections, Albums(1, 1, 1))
        options = {key: value for key, value in options.items() if key not in ("ssr_mode", "quiet", "js")}
        self.url = serve(blocks, server_port=free_port(), **options)

    def save(self, image: bytes, labels: list[str], rejected: list[str], active: list[str]) -> None:
        self.corrections.save(
            image,
            "png",
            labels=labels,
            rejected=rejected,
            reviewed="listed",
            model_labels=active,
            threshold=0.4,
            model="owner/name@1",
        )

    def open(self) -> None:
        self.page.goto(self.url)
        expect(self.page.get_by_test_id("corrections")).to_have_text(re.compile(r"Nothing is saved|\d image"))

    @property
    def lines(self) -> Locator:
        return self.page.locator("[data-figures]")

    def label(self, name: str) -> Locator:
        return self.page.locator(f"[data-figures='{name}']")


@pytest.fixture
def tab(page: Page, serve: Callable[..., str], tmp_path: Path) -> Tab:
    return Tab(page, serve, tmp_path)


def test_labels_that_the_model_gets_wrong_come_first_with_their_counts(
    tab: Tab, make_image: Callable[..., bytes]
) -> None:
    tab.open()
    expect(tab.page.get_by_test_id("corrections")).to_contain_text("Nothing is saved yet.")
    expect(tab.page.get_by_test_id("label-figures")).to_be_hidden()
    expect(tab.page.get_by_test_id("exports")).to_be_hidden()
    for seed in range(6):
        rejected = ["wolf"] if seed < 5 else []
        tab.save(make_image(seed), ["dog", HOSTILE], rejected, ["dog", "wolf"] + [HOSTILE] * (seed > 2))
    tab.save(make_image(6), ["long " * 40], [], ["long " * 40])
    tab.open()
    expect(tab.lines).to_have_count(4)
    names = [line.get_attribute("data-figures") for line in tab.lines.all()]
    assert names[:3] == ["wolf", HOSTILE, "dog"]
    expect(tab.label("wolf")).to_contain_text("100 % wrong")
    expect(tab.label("wolf")).to_contain_text("0 confirmed · 5 rejected")
    expect(tab.label("dog")).to_contain_text("0 % wrong")
    expect(tab.lines.nth(1)).to_contain_text("6 confirmed · 3 added")
    expect(tab.lines.nth(1)).to_contain_text("often with dog 6")
    parts = tab.lines.nth(1).locator(".bars span")
    widths = [part.bounding_box()["width"] for part in parts.all()]
    assert widths[0] == pytest.approx(widths[1], abs=1)  # three right, three missed
    sheet = tab.page.get_by_test_id("label-figures").bounding_box()
    for drawn in tab.page.get_by_test_id("label-figures").locator("b, .bars").all():
        box = drawn.bounding_box()
        assert box["x"] + box["width"] <= sheet["x"] + sheet["width"]
    rows = tab.page.get_by_test_id("corrections").locator("tbody tr")
    rows.first.get_by_role("button", name="Delete").click()
    rows.first.get_by_role("button", name="Delete for good").click()
    expect(rows).to_have_count(6)
    expect(tab.lines).to_have_count(3)
    expect(rows.first.get_by_role("button", name="Delete this correction")).to_be_focused()  # where the deleted one was


def test_a_label_rejected_that_the_model_did_not_have_counts_as_right(
    tab: Tab, make_image: Callable[..., bytes]
) -> None:
    tab.save(make_image(0), [], ["wolf"], [])
    tab.save(make_image(1), [], ["wolf"], ["wolf"])
    tab.save(make_image(2), [], ["cat"], [])
    tab.open()
    expect(tab.label("wolf")).to_contain_text("50 % wrong")
    expect(tab.label("wolf").locator(".bars span")).to_have_count(2)
    expect(tab.label("cat")).to_contain_text("0 % wrong")
    expect(tab.label("cat").locator(".bars span")).to_have_count(1)
    expect(tab.label("cat").locator(".bars .right")).to_have_count(1)


def test_a_heat_table_shows_which_labels_come_together(tab: Tab, make_image: Callable[..., bytes]) -> None:
    table = tab.page.get_by_test_id("together")
    tab.save(make_image(0), ["dog"], [], [])
    tab.open()
    expect(table).to_be_hidden()
    for seed in range(1, 4):
        tab.save(make_image(seed), ["dog", HOSTILE], [], [])
    tab.open()
    rows = table.locator("tbody tr")
    expect(rows.nth(0)).to_have_text("1dog–75")
    expect(rows.nth(1)).to_have_text(f"2{HOSTILE}100–")
    expect(table.get_by_role("columnheader", name=HOSTILE)).to_have_attribute("title", HOSTILE)
    expect(rows.nth(0).locator("td").nth(1)).to_have_attribute("title", f"{HOSTILE} on 3 of 4 images with dog")
    grounds = [
        rows.nth(row).locator("td[style]").evaluate("cell => getComputedStyle(cell).backgroundColor") for row in (0, 1)
    ]
    assert grounds[0] != grounds[1]
    sheet, inner = (tab.page.get_by_test_id(name).bounding_box() for name in ("label-figures", "together"))
    assert inner["x"] + inner["width"] <= sheet["x"] + sheet["width"]
    for theme in ("light", "dark"):
        tab.page.goto(f"{tab.url}?__theme={theme}")
        expect(rows).to_have_count(2)
        for name, ratio in table.evaluate(CONTRASTS).items():
            assert ratio >= 4.5, f"{theme}, {name}: {ratio:.2f}"


def test_of_thousands_of_labels_a_few_are_in_the_page_and_the_others_are_found(
    tab: Tab, make_image: Callable[..., bytes]
) -> None:
    tab.save(make_image(0), [f"label {number}" for number in range(3000)], [], [])
    tab.open()
    expect(tab.lines).to_have_count(8)
    tab.page.get_by_test_id("label-figures").get_by_role("button", name="Show 40 of 3,000").click()
    expect(tab.lines).to_have_count(40)
    tab.page.get_by_test_id("find-label").fill("LABEL 2999")
    expect(tab.lines).to_have_count(1)
    expect(tab.label("label 2999")).to_be_visible()
    tab.page.get_by_test_id("find-label").fill("no such")
    expect(tab.page.get_by_test_id("label-figures")).to_contain_text("No corrected label")
    tab.page.get_by_test_id("find-label").fill("")
    expect(tab.lines).to_have_count(8)


def test_on_a_phone_downloads_come_before_the_figures_which_open_in_full(
    tab: Tab, make_image: Callable[..., bytes]
) -> None:
    tab.save(make_image(0), [f"label {i}" for i in range(20)], [], [])
    tab.page.set_viewport_size({"width": 390, "height": 844})
    tab.open()
    expect(tab.page.get_by_test_id("exports")).to_be_in_viewport(ratio=1)
    tab.page.get_by_text("By label").click()
    expect(tab.lines).to_have_count(8)
    expect(tab.lines.last).to_be_visible()
    assert tab.page.get_by_test_id("label-figures").locator("ol").evaluate("ol => ol.scrollHeight <= ol.clientHeight")
    tab.page.set_viewport_size({"width": 1440, "height": 900})
    expect(tab.page.get_by_test_id("together")).to_have_attribute("open", "")


def test_downloads_for_other_tools_come_back_as_the_same_labels(
    tab: Tab, make_image: Callable[..., bytes], tmp_path: Path
) -> None:
    for seed in range(3):
        tab.save(make_image(seed), ["red sofa", f"a,{seed}"], ["dog"], [])
    tab.open()
    before = {row.path.name: row.labels for row in read_table(tab.corrections.csv_path).rows}
    exports = tab.page.get_by_test_id("exports")
    for kind in ("imagefolder", "txt", "fastai", "json"):
        exports.locator("summary").click()
        with tab.page.expect_download() as started:
            tab.page.get_by_test_id(f"export-{kind}").click()
        expect(tab.page.get_by_test_id(f"export-{kind}")).to_be_hidden()
        down = tab.corrections.folder / started.value.suggested_filename
        started.value.save_as(down)
        if down.suffix == ".zip":
            with zipfile.ZipFile(down) as archive:
                archive.extractall(tmp_path / kind)
            down = tmp_path / kind / ("metadata.csv" if kind == "imagefolder" else "")
        after = {row.path.name: row.labels for row in read_table(down).rows}
        spelled = {name: tuple(label.replace(" ", "_") for label in labels) for name, labels in before.items()}
        assert after == (spelled if kind == "fastai" else before)
    assert len(json.loads((tab.corrections.folder / "corrections.json").read_text())["images"]) == 3


def test_the_menu_closes_with_escape_and_on_leaving_it(tab: Tab, make_image: Callable[..., bytes]) -> None:
    tab.save(make_image(0), ["cat"], [], [])
    tab.open()
    menu = tab.page.get_by_test_id("exports")
    menu.locator("summary").focus()
    tab.page.keyboard.press("Enter")
    expect(menu.get_by_role("link").first).to_be_visible()
    tab.page.keyboard.press("Tab")
    expect(menu.get_by_role("link").first).to_be_focused()
    tab.page.keyboard.press("Escape")
    expect(menu.get_by_role("link").first).to_be_hidden()
    expect(menu.locator("summary")).to_be_focused()
