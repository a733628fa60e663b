"""The whole page in a real browser, on a checkpoint of 12 labels: tag, correct, save, load another model."""

from __future__ import annotations

import csv
import json
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import FilePayload, Locator, Page, expect

from demo.albums import Albums
from demo.checkpoint import Checkpoint, save_checkpoint
from demo.corrections import Corrections
from demo.images import decode
from demo.models import Models
from demo.retrain import Retraining
from demo.settings import EXAMPLES, Settings
from demo.tagger import Tagger
from demo.ui.page import build_page, launch_options

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load
expect.set_options(timeout=20_000)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Site:
    """A server on a folder of its own, and what a test does with its page."""

    def __init__(
        self,
        page: Page,
        serve: Callable[..., str],
        folder: Path,
        model: Path,
        make_retraining: Callable[[Settings], Retraining] = Retraining,
        **settings: object,
    ) -> None:
        self.page, self.folder = page, folder
        self.settings = Settings(
            model=str(model), corrections=folder / "corrections", runs=folder / "runs", device="cpu", **settings
        )
        self.models = Models(self.settings)
        self.retraining = make_retraining(self.settings)
        self.albums = Albums(2, 1000, 1 << 28)
        self.corrections = Corrections(self.settings.corrections)
        self.names = self.models.own.checkpoint.labels.names
        blocks = build_page(self.settings, self.models, self.corrections, self.albums, self.retraining)
        options = launch_options(self.settings, self.corrections, self.albums)
        options = {key: value for key, value in options.items() if key not in ("ssr_mode", "quiet")}
        self.url = serve(blocks, server_port=free_port(), **options)  # gradio leaks a socket for each port it tries
        self.open()

    def open(self) -> None:
        self.page.goto(self.url)
        expect(self.id("model").locator("b")).not_to_be_empty()

    def id(self, name: str) -> Locator:
        return self.page.get_by_test_id(name)

    def chip(self, name: str) -> Locator:
        return self.page.locator(f'[data-label="{name}"]')

    @property
    def chips(self) -> Locator:
        return self.id("tag-editor").locator("[data-label]")

    @property
    def image(self) -> Locator:
        return self.page.locator("#image img").first

    def upload(self, data: bytes, name: str = "upload.png") -> None:
        file = FilePayload(name=name, mimeType="image/png", buffer=data)
        self.page.locator("input[type=file]").first.set_input_files(file)

    def upload_and_wait(self, data: bytes) -> None:
        self.upload(data)
        expect(self.chips.first).to_be_visible()
        expect(self.id("tag-editor")).to_have_attribute("data-view", "ready")

    def pick(self, name: str) -> None:
        self.page.locator(f'[data-example="{name}"]').click()
        expect(self.chips.first).to_be_visible()

    def save(self, button: str = "save") -> None:
        self.id(button).click()
        expect(self.id("status")).to_have_attribute("data-state", "saved")

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name).click()

    def rows(self) -> list[dict[str, str]]:
        with self.corrections.csv_path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def site(page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path) -> Iterator[Site]:
    site = Site(page, serve, tmp_path, tiny_checkpoint)
    yield site
    site.retraining.cancel()


def save_some(site: Site, make_image: Callable[..., bytes], count: int) -> None:
    """Corrections of `count` made-up images, as if they had been saved on the page."""
    for seed in range(count):
        site.corrections.save(
            make_image(seed),
            "png",
            labels=[site.names[seed % 3]],
            rejected=[site.names[3 + seed % 3]],
            reviewed="all",
            model_labels=[site.names[3 + seed % 3]],
            threshold=0.4,
            model=site.models.own.checkpoint.identity,
            vocabulary=site.names,
        )


def test_an_example_is_one_click_away_and_shows_chips_with_scores(site: Site) -> None:
    site.pick("cat")
    expect(site.chips).to_have_count(len(site.names))
    scores = [float(score) for score in site.chips.evaluate_all("chips => chips.map(chip => chip.dataset.score)")]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    expect(site.id("active-count")).to_have_text(
        str(sum(score >= site.models.own.checkpoint.threshold for score in scores))
    )
    expect(site.page.locator(".facts p")).to_contain_text("ms on cpu, fp32")
    expect(site.image).to_be_visible()


def test_the_slider_counts_scores_at_every_stop_and_asks_the_server_nothing(site: Site) -> None:
    site.pick("dogs")
    expect(site.chips).to_have_count(len(site.names))
    scores = [float(score) for score in site.chips.evaluate_all("chips => chips.map(chip => chip.dataset.score)")]
    asked: list[str] = []
    site.page.on("request", lambda request: asked.append(request.url))
    counts = site.id("threshold").evaluate(
        """(slider) => Array.from({ length: 1001 }, (_, step) => {
          slider.value = step / 1000;
          slider.dispatchEvent(new Event("input"));
          return Number(document.querySelector('[data-testid="active-count"]').textContent);
        })"""
    )
    exact = np.array(scores, np.float32)
    assert counts == [int((exact >= np.float32(step / 1000)).sum()) for step in range(1001)]
    assert [url for url in asked if "heartbeat" not in url] == []


def test_saving_writes_exactly_what_was_seen(site: Site, make_image: Callable[..., bytes]) -> None:
    data = make_image(5)
    site.upload_and_wait(data)
    active = site.page.locator('[data-state="active"]').evaluate_all("all => all.map(chip => chip.dataset.label)")
    candidates = site.page.locator('[data-state="candidate"]').evaluate_all(
        "all => all.map(chip => chip.dataset.label)"
    )
    site.chip(active[0]).click()
    site.chip(candidates[-1]).click()
    site.save()
    (row,) = site.rows()
    assert set(json.loads(row["labels"])) == {*active[1:], candidates[-1]}
    assert json.loads(row["rejected"]) == [active[0]]
    assert json.loads(row["model_labels"]) == active
    assert (row["reviewed"], row["threshold"]) == ("listed", str(site.models.own.checkpoint.threshold))
    assert row["model"] == site.models.own.checkpoint.identity
    assert (site.settings.corrections / row["file_name"]).read_bytes() == data


def test_an_unreadable_file_is_told_and_nothing_is_lost(site: Site, make_image: Callable[..., bytes]) -> None:
    site.upload(b"this is no image", "first.png")
    expect(site.id("status")).to_have_attribute("data-state", "error")
    expect(site.page.locator("#image img")).to_have_count(0)
    site.upload_and_wait(make_image(1))
    before = site.chips.first.get_attribute("data-label")
    site.chips.first.click()
    site.upload(b"this is no image", "second.png")
    expect(site.id("status")).to_have_attribute("data-state", "error")
    expect(site.id("status")).to_contain_text("The image before is still open.")
    expect(site.chip(before)).to_have_attribute("data-state", "rejected")
    assert site.image.evaluate("image => image.decode().then(() => image.naturalWidth)") == 96
    site.save()
    assert json.loads(site.rows()[0]["rejected"]) == [before]


def test_decisions_return_with_their_image(site: Site, make_image: Callable[..., bytes]) -> None:
    site.upload_and_wait(make_image(2))
    first = site.chips.first.get_attribute("data-label")
    site.chips.first.click()
    site.save()
    site.pick("coffee")
    expect(site.page.locator('[data-state="rejected"]')).to_have_count(0)
    second = site.chips.first.get_attribute("data-label")
    site.chips.first.click()
    site.upload(make_image(2))
    expect(site.chip(first)).to_have_attribute("data-state", "rejected")
    expect(site.id("status")).to_contain_text("As you saved it on")
    site.pick("coffee")
    expect(site.chip(second)).to_have_attribute("data-state", "rejected")
    expect(site.id("status")).to_contain_text("not saved yet")


def test_two_people_do_not_meet(site: Site, make_image: Callable[..., bytes], browser: object) -> None:
    other = site.page.context.browser.new_context().new_page()
    other.goto(site.url)
    site.upload_and_wait(make_image(3))
    file = FilePayload(name="x.png", mimeType="image/png", buffer=make_image(4))
    other.locator("input[type=file]").first.set_input_files(file)
    expect(other.locator("[data-label]").first).to_be_visible()
    site.chips.first.click()
    expect(other.locator('[data-state="rejected"]')).to_have_count(0)
    site.save()
    other.get_by_test_id("save").click()
    expect(other.get_by_test_id("status")).to_have_attribute("data-state", "saved")
    other.context.close()
    rows = site.rows()
    assert [len(json.loads(row["rejected"])) for row in rows] == [1, 0]
    for row, seed in zip(rows, (3, 4), strict=True):
        assert (site.settings.corrections / row["file_name"]).read_bytes() == make_image(seed)


def test_corrections_are_shown_deleted_and_downloaded(
    site: Site, make_image: Callable[..., bytes], tmp_path: Path
) -> None:
    site.tab("Corrections")
    expect(site.id("corrections")).to_contain_text("Nothing is saved yet.")
    site.tab("Tag")
    save_some(site, make_image, 3)
    site.corrections.save(
        make_image(9),
        "png",
        labels=['<img src=x onerror="throw 1">', "${1+1}", "\\m/"],
        rejected=[],
        reviewed="listed",
        model_labels=[],
        threshold=0.5,
        model="m",
    )
    site.tab("Corrections")
    lines = site.id("corrections").locator("tbody tr")
    expect(lines).to_have_count(4)
    expect(lines.first).to_contain_text('<img src=x onerror="throw 1">')
    expect(lines.first).to_contain_text("${1+1}")
    expect(site.id("corrections")).to_contain_text("4 images · 6 labels added · 3 rejected")
    lines.first.get_by_role("button", name="Delete").click()
    lines.first.get_by_role("button", name="Keep").click()
    lines.first.get_by_role("button", name="Delete").click()
    lines.first.get_by_role("button", name="Delete for good").click()
    expect(lines).to_have_count(3)
    assert len(site.rows()) == 3
    for picture in lines.locator("img").all():
        assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    with site.page.expect_download() as saved:
        site.id("download").click()
    saved.value.save_as(tmp_path / "down.csv")
    assert (tmp_path / "down.csv").read_bytes() == site.corrections.csv_path.read_bytes()
    with site.page.expect_download() as saved:
        site.id("download-zip").click()
    saved.value.save_as(tmp_path / "down.zip")
    assert len([name for name in zipfile.ZipFile(tmp_path / "down.zip").namelist() if name.startswith("images/")]) == 3


def test_fifty_rows_a_page(site: Site, make_image: Callable[..., bytes]) -> None:
    save_some(site, make_image, 52)
    site.tab("Corrections")
    lines = site.id("corrections").locator("tbody tr")
    expect(lines).to_have_count(50)
    site.page.get_by_role("button", name="Older").click()
    expect(lines).to_have_count(2)
    expect(site.id("corrections")).to_contain_text("Page 2 of 2")


def test_another_model_is_loaded_and_a_wrong_one_leaves_the_old(
    site: Site, tmp_path: Path, make_checkpoint: Callable[..., Checkpoint]
) -> None:
    save_checkpoint(tmp_path / "other", make_checkpoint(1, ("sun", "moon", "star")))
    field = site.id("model")
    field.fill(str(tmp_path / "nowhere"))
    site.page.keyboard.press("Enter")
    expect(site.page.locator(".model-box .problem")).to_contain_text("There is no checkpoint at")
    expect(site.id("model")).to_contain_text("tiny")
    site.pick("cat")
    field.fill(str(tmp_path / "other"))
    site.page.keyboard.press("Enter")
    expect(site.id("model")).to_contain_text("other")
    expect(site.chip("moon")).to_be_visible()
    expect(site.chips).to_have_count(3)


def test_the_keyboard_alone_is_enough(site: Site) -> None:
    press = site.page.keyboard.press
    site.page.locator("[data-example]").first.focus()
    press("Enter")
    expect(site.chips.first).to_be_visible()
    site.id("tag-editor").focus()
    press("ArrowRight")
    expect(site.chips.first).to_be_focused()
    press("Space")
    expect(site.chips.first).to_have_attribute("data-state", "rejected")
    press("s")
    expect(site.id("status")).to_have_attribute("data-state", "saved")
    first = site.id("tag-editor").evaluate("() => document.querySelector('#image img').src")
    press("n")
    expect(site.page.locator("#image img").first).not_to_have_attribute("src", first)
    site.page.get_by_role("tab", name="Corrections").focus()
    press("Enter")
    expect(site.id("corrections").locator("tbody tr")).to_have_count(1)


def test_a_pasted_image_is_tagged(site: Site, make_image: Callable[..., bytes]) -> None:
    site.page.evaluate(
        """(bytes) => {
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
          document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
        }""",
        list(make_image(6)),
    )
    expect(site.chips.first).to_be_visible()


def test_image_and_editor_fit_the_screen(site: Site) -> None:
    site.pick("pagoda")
    for part in (site.page.locator("#image"), site.id("tag-editor"), site.id("save")):
        box = part.bounding_box()
        assert box["y"] >= 0
        assert box["y"] + box["height"] <= 900
    site.page.set_viewport_size({"width": 390, "height": 844})
    tops = [site.page.locator(part).bounding_box()["y"] for part in ("#image", "#editor", "#queue")]
    assert tops == sorted(tops)
    assert site.page.evaluate("document.documentElement.scrollWidth") <= 390


def test_scores_are_the_models_own(site: Site) -> None:
    site.pick("wine")
    expected = Tagger(site.models.own.checkpoint, "cpu").tag(decode((EXAMPLES / "wine.jpg").read_bytes())).scores
    for name, score in zip(site.names, expected, strict=True):
        assert abs(float(site.chip(name).get_attribute("data-score")) - score) < 1e-5
