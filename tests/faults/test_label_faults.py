"""Label names that are made to be more than text: a page shows them as they are, and a save keeps them exactly.

The planted implementations set innerHTML where ours sets textContent, leave escaping out, and quote with one backtick.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from playwright.sync_api import Browser, Page, expect

from demo import card, report
from demo.checkpoint import Checkpoint, save_checkpoint
from demo.labels import LabelSet
from demo.tables import read_table
from demo.ui import panel, tag_editor
from tests.browser.test_page import Site
from tests.browser.test_report import NAMES as REPORTED
from tests.browser.test_report import write_report
from tests.faults.table import demand, planted
from tests.test_card import METRICS

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning"),  # gradio's, on every page load
]

LONG = "x" * 10_000
NAMES = (
    "<img src=x onerror=document.title='hit'>",
    "${1+1}",
    "\\m/",
    "{{value}}",
    "`tick` ``",
    '"] , [data-x="',
    "a\u202ereversed\u200f",
    "  two  spaces  ",
    "@children",
    "two\nlines",
    "</bdi></script><script>document.title='hit'</script>",
    LONG,
)


def texts(page: Page, selector: str) -> list[str]:
    return page.locator(selector).evaluate_all("nodes => nodes.map(node => node.textContent)")


@dataclass
class Walk:
    """A way over the whole page with hostile names. wrong: places that showed or saved something else."""

    site: Site
    wrong: list[str] = field(default_factory=list)

    def expect_names(self, place: str, selector: str, names: tuple[str, ...] = NAMES) -> None:
        """Each of the names is among the texts there, and nothing there became an element."""
        shown = texts(self.site.page, selector)
        markup = self.site.page.locator(selector).locator("img, script, bdi").count()
        if not set(names) <= set(shown) or markup:
            self.wrong.append(f"{place}: {[name[:40] for name in set(names) - set(shown)]} not shown as text")

    def editor(self, data: bytes) -> dict[str, tuple[str, ...]]:
        """Reject a label, confirm the others, save; gives the lists that the row has to hold."""
        site = self.site
        site.upload_and_wait(data)
        site.id("threshold").fill("0")
        self.expect_names("the editor", "[data-testid=tag-editor] .chip bdi")
        if sorted(site.chips.evaluate_all("chips => chips.map(chip => chip.dataset.label)")) != sorted(NAMES):
            self.wrong.append("the editor: data-label")
        box = site.id("tag-editor").bounding_box()
        chips = site.chips.evaluate_all("chips => chips.map(chip => chip.getBoundingClientRect().width)")
        assert max(chips) <= box["width"]
        site.id("add-label").fill("m/")
        self.expect_names("the editor's list", "[role=option] bdi", ("\\m/",))
        site.page.keyboard.press("Escape")
        site.id("add-label").fill("")
        site.chips.evaluate_all("(chips, name) => chips.find(chip => chip.dataset.label === name).click()", "${1+1}")
        site.save()
        return {"labels": tuple(sorted(set(NAMES) - {"${1+1}"})), "rejected": ("${1+1}",)}

    def saved(self, lists: dict[str, tuple[str, ...]]) -> None:
        """The row says exactly that, to csv and json, to the writer and to the reader of tables."""
        (cells,) = csv.DictReader(self.site.corrections.csv_path.read_text(encoding="utf-8").splitlines())
        (row,) = self.site.corrections.rows()
        (read,) = read_table(self.site.corrections.csv_path).rows
        for name, expected in lists.items():
            found = (json.loads(cells[name]), getattr(row, name), getattr(read, name))
            if any(tuple(sorted(labels)) != expected for labels in found):
                self.wrong.append(f"the row: {name}")

    def corrections(self) -> None:
        site = self.site
        site.tab("Corrections")
        expect(site.id("corrections").locator("tbody tr")).to_have_count(1)
        self.expect_names("the corrections table", "[data-testid=corrections] tbody .tag bdi")
        more = site.id("label-figures").locator(".more")
        more.click()
        expect(more).to_be_hidden()
        self.expect_names("the figures by label", "[data-testid=label-figures] .name bdi")
        self.expect_names("the labels together", "[data-testid=together] tbody th bdi", NAMES[:1])

    def grid(self) -> None:
        """Reads the label box, and decides on the longest label."""
        site = self.site
        site.tab("Grid")
        expect(site.id("grid")).to_have_attribute("data-view", "ready")
        expect(site.id("grid-counts")).not_to_contain_text("tagged so far")
        site.id("grid-label").click()
        self.expect_names("the grid's label box", "[data-testid=grid-labels] [role=option] bdi")
        site.id("grid-label").fill(LONG[:200])
        site.page.keyboard.press("Enter")
        expect(site.id("grid-label")).to_have_value(LONG)
        expect(site.id("grid")).to_have_attribute("data-view", "ready")
        tile = site.id("grid").locator("[data-index]").first
        tile.click()
        expect(tile).to_have_attribute("data-pending", "true")
        site.id("grid-save").click()
        expect(site.id("grid-status")).to_have_attribute("data-state", "saved")
        site.tab("Tag")

    def whole(self, data: bytes) -> list[str]:
        self.saved(self.editor(data))
        self.corrections()
        self.grid()
        if self.site.page.title() != "TagLoop":
            self.wrong.append("a name ran as a script")
        return self.wrong


@pytest.fixture
def hostile_model(tmp_path: Path, make_checkpoint: Callable[..., Checkpoint]) -> Path:
    save_checkpoint(tmp_path / "model", make_checkpoint(names=NAMES))
    return tmp_path / "model"


@demand("hostile label names")
def test_hostile_names_are_text_all_over_the_page_and_are_saved_exactly(
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    hostile_model: Path,
    make_image: Callable[..., bytes],
    figure: Callable[[str], None],
) -> None:
    wrong = Walk(Site(page, serve, tmp_path, hostile_model)).whole(make_image(1))
    figure(f"{len(NAMES)} names, up to 10 kB, in 6 places of the page and a row: {len(wrong)} not as they are")
    assert wrong == []


@demand("hostile label names")
def test_decisions_on_hostile_names_outlive_another_model(
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    hostile_model: Path,
    tiny_checkpoint: Path,
    make_image: Callable[..., bytes],
) -> None:
    walk, data = Walk(Site(page, serve, tmp_path, hostile_model)), make_image(1)
    site, lists = walk.site, walk.editor(data)
    site.id("model").fill(str(tiny_checkpoint))
    page.keyboard.press("Enter")
    expect(site.id("status")).to_contain_text("Tagged again")
    site.upload(data)
    expect(site.id("status")).to_contain_text("As you saved it")
    walk.expect_names("the editor", "[data-testid=tag-editor] .chip bdi")
    site.save()
    (row,) = site.corrections.rows()
    assert walk.wrong == []
    assert set(row.labels) >= set(lists["labels"])
    assert row.rejected == lists["rejected"]


@planted("hostile label names")
def test_the_check_of_the_page_catches_inner_html(
    browser: Browser,
    serve: Callable[..., str],
    tmp_path: Path,
    hostile_model: Path,
    make_image: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (panel, tag_editor):
        read = module._read
        monkeypatch.setattr(module, "_read", lambda name, read=read: read(name).replace("textContent", "innerHTML"))
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    wrong = Walk(Site(context.new_page(), serve, tmp_path, hostile_model)).whole(make_image(1))
    context.close()
    places = {said.partition(":")[0] for said in wrong}
    assert {"the editor", "the corrections table", "the grid's label box", "a name ran as a script"} <= places


# The report of a fine-tune, and its model card


def not_text_in_report(page: Page, file: Path) -> list[str]:
    page.goto(file.as_uri())
    names = [name for name in REPORTED if len(name) < 80]
    wrong = [name for name in names if page.get_by_text(name, exact=True).count() == 0]
    wrong += ["a script"] * page.evaluate("document.scripts.length")
    return wrong + ["a picture"] * (not page.evaluate("[...document.images].every(image => image.naturalWidth > 0)"))


@demand("hostile label names")
def test_hostile_names_are_text_in_a_report(
    page: Page, tmp_path: Path, make_image: Callable[..., bytes], loaded_tiny: Checkpoint
) -> None:
    assert not_text_in_report(page, write_report(tmp_path, make_image, loaded_tiny)) == []
    assert page.title().startswith("Better")


@planted("hostile label names")
def test_the_check_of_reports_catches_one_that_escapes_nothing(
    browser: Browser,
    tmp_path: Path,
    make_image: Callable[..., bytes],
    loaded_tiny: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(report, "escape", lambda text: text)
    context = browser.new_context()
    wrong = not_text_in_report(context.new_page(), write_report(tmp_path, make_image, loaded_tiny))
    context.close()
    assert {REPORTED[0], "a script", "a picture"} <= set(wrong)


def not_text_in_card(page: Page, checkpoint: Checkpoint) -> list[str]:
    """Names that a page which lets all HTML of a card through does not show, and what it runs."""
    new = replace(checkpoint, labels=LabelSet(NAMES), identity="local:first@aaaaaaaaaaaa", metrics=METRICS)
    page.set_content(MarkdownIt("commonmark", {"html": True}).render(card.text(new, checkpoint)))
    shown = [" ".join(text.split()) for text in texts(page, "h2:last-of-type + p code")]
    wrong = [name for name in NAMES[:-1] if " ".join(name.split()) not in shown]
    wrong += ["the long name"] * (not any(text.startswith("xxxx") and len(text) == 78 for text in shown))
    return wrong + ["an element"] * page.locator("img, script").count()


@demand("hostile label names")
def test_hostile_names_are_text_in_a_model_card(page: Page, loaded_tiny: Checkpoint) -> None:
    assert not_text_in_card(page, loaded_tiny) == []


@planted("hostile label names")
def test_the_check_of_cards_catches_a_single_backtick(
    browser: Browser, loaded_tiny: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(card, "_code", lambda name: f"`{name}`")
    context = browser.new_context()
    wrong = not_text_in_card(context.new_page(), loaded_tiny)
    context.close()
    assert {"`tick` ``", "the long name"} <= set(wrong)
