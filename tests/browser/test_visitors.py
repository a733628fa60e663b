"""Several people at once, each in a browser context of their own: no labels cross, no row is lost."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from demo.checkpoint import Checkpoint
from demo.images import decode
from demo.tagger import Tagger
from demo.ui.desk import Desk
from demo.ui.tagging import Tagging
from tests.browser.test_page import Site
from tests.faults.table import demand, planted

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
ROUNDS = 3


class Visitor:
    """One person with a page of their own, and images that nobody else has."""

    def __init__(self, browser: Browser, url: str, number: int, make_image: Callable[..., bytes]) -> None:
        self.context = browser.new_context(viewport={"width": 1000, "height": 800})
        self.page: Page = self.context.new_page()
        self.number = number
        self.images = [make_image(1000 + ROUNDS * number + seed) for seed in range(ROUNDS)]
        self.page.goto(url)

    def upload(self, data: bytes) -> None:
        self.page.locator("[data-label]").evaluate_all("chips => chips.forEach((chip) => (chip.dataset.old = ''))")
        file = {"name": "x.png", "mimeType": "image/png", "buffer": data}
        self.page.locator("input[type=file]").first.set_input_files(file)  # type: ignore[arg-type]

    def is_tagged(self) -> None:
        expect(self.page.locator("[data-old]")).to_have_count(0)
        expect(self.page.locator("[data-label]").first).to_be_visible()

    def save_without_the_first(self) -> None:
        self.is_tagged()
        self.page.locator("[data-label]").first.click()
        self.page.get_by_test_id("save").click()

    def is_saved(self) -> None:
        expect(self.page.get_by_test_id("status")).to_have_attribute("data-state", "saved")

    def decide(self) -> None:
        """Decide on a label, each visitor on another one as far as there are enough."""
        self.is_tagged()
        chips = self.page.locator("[data-label]")
        chips.nth(self.number % chips.count()).click()

    def decided(self) -> list[tuple[str, str]]:
        """Labels with a decision, and which."""
        chips = self.page.locator("[data-state=confirmed], [data-state=rejected]")
        return [
            tuple(pair)
            for pair in chips.evaluate_all("all => all.map(chip => [chip.dataset.label, chip.dataset.state])")
        ]


def crossings(
    site: Site,
    browser: Browser,
    people: int,
    checkpoint: Checkpoint,
    make_image: Callable[..., bytes],
) -> list[str]:
    """What is wrong after that many people labelled at once, on images of their own and then all on one image."""
    visitors = [Visitor(browser, site.url, number, make_image) for number in range(people)]
    try:
        for which in range(ROUNDS):
            for visitor in visitors:
                visitor.upload(visitor.images[which])
            for visitor in visitors:
                visitor.save_without_the_first()
            for visitor in visitors:
                visitor.is_saved()
        images = [data for visitor in visitors for data in visitor.images]
        return wrong_rows(site, images, checkpoint) + wrong_drafts(visitors, make_image(999))
    finally:
        for visitor in visitors:
            visitor.context.close()


def wrong_rows(site: Site, images: list[bytes], checkpoint: Checkpoint) -> list[str]:
    """Images whose one row is not what their visitor saved: the model's labels without the best one."""
    rows, tagger, wrong = site.rows(), Tagger(checkpoint, "cpu"), []
    for data in images:
        scores = tagger.tag(decode(data)).scores
        active = {name for name, score in zip(site.names, scores, strict=True) if score >= checkpoint.threshold}
        best = site.names[int(scores.argmax())]
        labels = active - {best} if active else {best}
        own = [row for row in rows if Path(row["file_name"]).stem == hashlib.sha256(data).hexdigest()]
        said = [tuple(set(json.loads(row[key])) for key in ("labels", "rejected", "model_labels")) for row in own]
        if said != [(labels, {best} if active else set(), active)]:
            wrong.append(f"a row says {said}")
    return wrong + ["a row of no image"] * (len(rows) > len(images))


def wrong_drafts(visitors: list[Visitor], shared: bytes) -> list[str]:
    """Visitors who come back to an image on which all decided and nobody saved, and find decisions of others."""
    made = []
    for visitor in visitors:
        visitor.upload(shared)
    for visitor in visitors:
        visitor.decide()
        made.append(visitor.decided())
    for data in (None, shared):
        for visitor in visitors:
            visitor.upload(data or visitor.images[0])
        for visitor in visitors:
            visitor.is_tagged()
    found = [visitor.decided() for visitor in visitors]
    return [f"decided {one}, found {other}" for one, other in zip(made, found, strict=True) if one != other]


@pytest.mark.timeout(1200)
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
    record_property: Callable[[str, object], None],
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint)
    wrong = crossings(site, browser, people, loaded_tiny, make_image)
    record_property("figure", f"{people} people, {ROUNDS} images each and one in common: {len(wrong)} labels crossed")
    assert wrong == []


def share_the_desk(patch: pytest.MonkeyPatch) -> None:
    """Every visitor has the same desk: what gradio copies for each of them is one object."""
    copies: list[Desk] = []

    def copied(desk: Desk, _: dict) -> Desk:
        if len(copies) < 2:  # the first copy is gr.State's own, which nobody works at
            copies.append(replace(desk))
        return copies[-1]

    patch.setattr(Desk, "__deepcopy__", copied, raising=False)


def save_what_is_open(patch: pytest.MonkeyPatch) -> None:
    """Moreover, decisions are saved for the image that the desk has open, whatever image they were made on."""
    share_the_desk(patch)
    save = Tagging.save

    def careless(tagging: Tagging, decisions: object, desk: Desk) -> object:
        return save(tagging, replace(decisions, key=f"{desk.image}:{decisions.key.partition(':')[2]}"), desk)

    patch.setattr(Tagging, "save", careless)


@pytest.mark.faults
@planted("two users")
@pytest.mark.parametrize(("plant", "said"), [(share_the_desk, "found"), (save_what_is_open, "a row says")])
def test_the_check_of_visitors_catches_state_of_the_module(
    plant: Callable[[pytest.MonkeyPatch], None],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    browser: Browser,
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    loaded_tiny: Checkpoint,
    make_image: Callable[..., bytes],
) -> None:
    plant(monkeypatch)
    site = Site(page, serve, tmp_path, tiny_checkpoint)
    assert any(said in one for one in crossings(site, browser, 3, loaded_tiny, make_image))
