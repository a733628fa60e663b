"""Several people at once, each in a browser context of their own: no labels cross, no row is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.checkpoint import Checkpoint
from demo.images import decode
from demo.tagger import Tagger
from tests.browser.test_page import Site
from tests.faults.table import demand

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
ROUNDS = 3


class Visitor:
    """One person with a page of their own, who rejects the best label of each image."""

    def __init__(self, browser: Browser, url: str, number: int, make_image: Callable[..., bytes]) -> None:
        self.context = browser.new_context(viewport={"width": 1000, "height": 800})
        self.page: Page = self.context.new_page()
        self.images = [make_image(1000 + ROUNDS * number + seed) for seed in range(ROUNDS)]
        self.page.goto(url)

    def upload(self, which: int) -> None:
        self.page.locator("[data-label]").evaluate_all("chips => chips.forEach((chip) => (chip.dataset.old = ''))")
        file = {"name": "x.png", "mimeType": "image/png", "buffer": self.images[which]}
        self.page.locator("input[type=file]").first.set_input_files(file)  # type: ignore[arg-type]

    def reject_the_first(self) -> None:
        expect(self.page.locator("[data-old]")).to_have_count(0)
        chip = self.page.locator("[data-label]").first
        expect(chip).to_be_visible()
        chip.click()
        self.page.get_by_test_id("save").click()

    def is_done(self) -> None:
        expect(self.page.get_by_test_id("status")).to_have_attribute("data-state", "saved")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("people", [4, pytest.param(20, marks=[pytest.mark.faults, demand("two users")])])
def test_people_who_label_at_once_cross_no_labels_and_lose_no_row(
    people: int,
    browser: Browser,
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    loaded_tiny: Checkpoint,
    make_image: Callable[..., bytes],
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint)
    visitors = [Visitor(browser, site.url, number, make_image) for number in range(people)]
    for which in range(ROUNDS):
        for visitor in visitors:
            visitor.upload(which)
        for visitor in visitors:
            visitor.reject_the_first()
        for visitor in visitors:
            visitor.is_done()
    rows = {Path(row["file_name"]).stem: row for row in site.rows()}
    assert len(rows) == len(site.rows()) == people * ROUNDS
    tagger = Tagger(loaded_tiny, "cpu")
    for data in (data for visitor in visitors for data in visitor.images):
        row, scores = rows[hashlib.sha256(data).hexdigest()], tagger.tag(decode(data)).scores
        active = {name for name, score in zip(site.names, scores, strict=True) if score >= loaded_tiny.threshold}
        best = site.names[int(scores.argmax())]
        assert set(json.loads(row["model_labels"])) == active
        assert json.loads(row["rejected"]) == ([best] if active else [])
        assert set(json.loads(row["labels"])) == (active - {best} if active else {best})
    for visitor in visitors:
        visitor.context.close()
