"""What a visitor may save within an hour, and who may delete: refused on the page, and nothing of it is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from demo.hourly import Hourly
from demo.ui import visitor
from tests.browser.grid_site import GridSite
from tests.browser.test_grid import LABELS, SCORES
from tests.browser.test_page import Site

pytestmark = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")  # gradio's, on every page load


@pytest.fixture
def locale(request: pytest.FixtureRequest) -> str:
    return getattr(request, "param", "en-US")


@pytest.mark.parametrize(
    ("locale", "said"),
    [
        ("en-US", "Not saved. One visitor may save 2 corrections an hour here. What you decided stays; save it in 60"),
        ("zh-CN", "未保存。这里每位访客每小时最多保存 2 条修正。你的判定会保留；请在 60 分钟后再保存。"),
    ],
    indirect=["locale"],
)
def test_the_editor_refuses_a_save_too_many_and_keeps_what_was_decided(
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    make_image: Callable[..., bytes],
    said: str,
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint, max_saves_per_hour=2)
    for seed in range(2):
        site.upload_and_wait(make_image(seed))
        site.save()
        site.page.reload()
    site.upload_and_wait(make_image(2))
    name = site.chips.first.get_attribute("data-label")
    site.chip(name).click()
    site.id("save").click()
    expect(site.id("status")).to_have_attribute("data-state", "error")
    expect(site.id("status")).to_contain_text(said)
    expect(site.chip(name)).to_have_attribute("data-state", "rejected")
    assert len(site.rows()) == 2


def test_programs_are_refused_likewise(
    page: Page, serve: Callable[..., str], tmp_path: Path, tiny_checkpoint: Path, make_image: Callable[..., bytes]
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint, max_saves_per_hour=1)
    answers = []
    with httpx.Client(base_url=site.url, timeout=60) as client:
        for seed in range(2):
            path = client.post("gradio_api/upload", files={"files": ("image.png", make_image(seed))}).json()[0]
            values = [{"path": path, "meta": {"_type": "gradio.FileData"}}, ["cat"], [], "listed"]
            event = client.post("gradio_api/call/save_correction", json={"data": values}).json()["event_id"]
            answers.append(client.get(f"gradio_api/call/save_correction/{event}").text)
    assert "event: complete" in answers[0]
    assert "event: error" in answers[1]
    assert (
        "Not saved. One visitor may save 1 corrections an hour here."
        in json.loads(answers[1].split("data: ", 1)[1])["error"]
    )
    assert len(site.rows()) == 1


def test_the_grid_counts_photos_and_keeps_the_decisions_that_were_refused(
    page: Page, serve: Callable[..., str], tmp_path: Path, make_checkpoint: Callable, make_image: Callable[..., bytes]
) -> None:
    checkpoint = replace(make_checkpoint(names=LABELS.names), labels=LABELS)
    grid = GridSite(page, serve, tmp_path, checkpoint, make_image, SCORES.copy())
    grid.tagging.hourly = Hourly(3)
    grid.open("cat")
    for place in (0, 2):
        grid.tile(place).click()
    grid.save()
    for place in (4, 5):
        grid.tile(place).click()
    grid.save("error")
    expect(grid.id("status")).to_contain_text("Nothing was saved. One visitor may save 3 corrections an hour here.")
    for place in (4, 5):
        expect(grid.tile(place)).to_have_attribute("data-pending", "true")
    assert sorted(grid.rows()) == [0, 2]
    grid.tagging.hourly = Hourly(4)
    grid.save()
    assert sorted(grid.rows()) == [0, 2, 4, 5]
    grid.tile(1).click()
    grid.tile(3).click()
    for place in (1, 3):  # what was replaced since is not saved, and costs nothing
        grid.album.photos[place] = replace(grid.album.photos[place], read=lambda most: make_image(99))
    grid.save("error")
    assert grid.tagging.hourly.take("127.0.0.1", 2) is None


def test_who_is_known_by_name_deletes_their_own_rows_only(
    page: Page,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    make_image: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint)
    values = {"labels": ["cat"], "rejected": [], "reviewed": "listed", "model_labels": [], "threshold": 0.5}
    for annotator in ("ann", "bob"):
        site.corrections.save(make_image(1), "png", model="m@1", annotator=annotator, **values)
    site.tab("Corrections")  # nobody in particular is offered to delete any row
    rows = site.id("corrections").locator("tbody tr")
    expect(rows).to_have_count(2)
    theirs = rows.filter(has_text="by ann")
    monkeypatch.setattr(visitor, "annotator", lambda: "bob")
    theirs.get_by_role("button", name="Delete this correction").click()
    theirs.get_by_role("button", name="Delete for good").click()
    expect(page.get_by_text("This row is not yours: everybody deletes their own.")).to_be_visible()
    expect(rows).to_have_count(2)
    expect(theirs.get_by_role("button", name="Delete this correction")).to_have_count(0)
    mine = rows.filter(has_text="yours")
    mine.get_by_role("button", name="Delete this correction").click()
    mine.get_by_role("button", name="Delete for good").click()
    expect(rows).to_have_count(1)
    assert [row.annotator for row in site.corrections.rows()] == ["ann"]


def test_strangers_delete_their_own_rows_only_and_see_which_these_are(
    page: Page,
    browser: Browser,
    serve: Callable[..., str],
    tmp_path: Path,
    tiny_checkpoint: Path,
    make_image: Callable[..., bytes],
) -> None:
    site = Site(page, serve, tmp_path, tiny_checkpoint, on_space=True)
    context = browser.new_context()
    other = context.new_page()
    for number, someone in enumerate((page, other)):
        someone.goto(site.url)
        file = {"name": "x.png", "mimeType": "image/png", "buffer": make_image(1)}
        someone.locator("input[type=file]").first.set_input_files(file)  # type: ignore[arg-type]
        expect(someone.locator("[data-label]").first).to_be_visible()
        expect(someone.get_by_test_id("status")).not_to_contain_text("As you saved it")
        someone.get_by_test_id("save").click()
        expect(someone.get_by_test_id("status")).to_have_attribute("data-state", "saved")
        assert len(site.rows()) == number + 1
    other.get_by_role("tab", name="Corrections").click()
    rows = other.get_by_test_id("corrections").locator("tbody tr")
    expect(rows).to_have_count(2)
    expect(rows.filter(has_text="yours")).to_have_count(1)
    expect(rows.filter(has_text="by visitor-")).to_have_count(1)
    expect(other.get_by_role("button", name="Delete this correction")).to_have_count(1)
    other.get_by_role("button", name="Delete this correction").click()
    other.get_by_role("button", name="Delete for good").click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("by visitor-")
    expect(other.get_by_role("button", name="Delete this correction")).to_have_count(0)
    context.close()
